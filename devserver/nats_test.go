package devserver_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bindery/devserver"
	"bindery/devserver/servertest"
)

// runningNATS writes an account.
func runningNATS(t *testing.T, n *devserver.NATS) running {
	t.Helper()
	account, err := nkeys.CreateAccount()
	must(t, err)
	key, err := account.PublicKey()
	must(t, err)
	operator, err := nkeys.FromSeed([]byte(n.OperatorSeed.Reveal()))
	must(t, err)
	token, err := jwt.NewAccountClaims(key).Encode(operator)
	must(t, err)
	return running{
		Process: n.Process, addr: n.Addr,
		write: func(ctx context.Context) error {
			_, err := askNATS(ctx, n, "$SYS.REQ.CLAIMS.UPDATE", token)
			return err
		},
		written: func(ctx context.Context) error {
			got, err := askNATS(ctx, n, "$SYS.REQ.ACCOUNT."+key+".CLAIMS.LOOKUP", "")
			if err == nil && got != token {
				err = errors.New("the account is another")
			}
			return err
		},
		again: func(ctx context.Context, dir string) (*devserver.Process, error) {
			s, err := devserver.StartNATS(ctx, devserver.NATSOptions{Dir: dir})
			if err != nil {
				return nil, err
			}
			if s.Addr != n.Addr || !s.OperatorSeed.Equal(n.OperatorSeed) || !s.SystemCreds.Equal(n.SystemCreds) {
				err = fmt.Errorf("the address was %s and is %s, or a secret has changed", n.Addr, s.Addr)
			}
			return s.Process, err
		},
	}
}

func askNATS(ctx context.Context, n *devserver.NATS, subject, payload string) (string, error) {
	nc, err := nats.Connect(n.Addr, nats.UserCredentialBytes([]byte(n.AdminCreds.Reveal())))
	if err != nil {
		return "", err
	}
	defer nc.Close()
	m, err := nc.RequestWithContext(ctx, subject, []byte(payload))
	if err != nil {
		return "", err
	}
	return string(m.Data), nil
}

func TestNATSNeedsCredentials(t *testing.T) {
	t.Parallel()
	n := servertest.SharedNATS(t)
	if nc, err := nats.Connect(n.Addr); !errors.Is(err, nats.ErrAuthorization) {
		if err == nil {
			nc.Close()
		}
		t.Errorf("without credentials: got %v, want %v", err, nats.ErrAuthorization)
	}
}
