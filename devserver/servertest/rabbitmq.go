package servertest

import (
	"context"
	"errors"
	"os"
	"testing"

	"bindery/devserver"
)

// RabbitMQ starts a broker for this test alone.
func RabbitMQ(t testing.TB, options ...func(*devserver.RabbitMQOptions)) *devserver.RabbitMQ {
	t.Helper()
	o := devserver.RabbitMQOptions{Dir: dir(t)}
	for _, set := range options {
		set(&o)
	}
	r, err := devserver.StartRabbitMQ(t.Context(), o)
	Check(t, err)
	end(t, r.Process)
	return r
}

// sharedRabbitMQ is the broker that the tests of this process share.
var sharedRabbitMQ lazy[*devserver.RabbitMQ]

// SharedRabbitMQ returns the broker of this package's tests.
func SharedRabbitMQ(t testing.TB) *devserver.RabbitMQ {
	t.Helper()
	needMain(t)
	r, err := sharedRabbitMQ.get(func() (*devserver.RabbitMQ, *devserver.Process, error) {
		d, err := openTemp()
		if err != nil {
			return nil, nil, err
		}
		r, err := devserver.StartRabbitMQ(context.Background(), devserver.RabbitMQOptions{Dir: d})
		if err != nil {
			return nil, nil, errors.Join(err, os.RemoveAll(d))
		}
		return r, r.Process, nil
	})
	Check(t, err)
	return r
}
