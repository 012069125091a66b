package main

import (
	"context"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"bindery/devserver/servertest"
	"bindery/telemetry"
	"bindery/test/poll"
)

func TestDevStartsAServerAgain(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	log := &poll.Buffer{}
	before := r.Pid()
	go func() {
		done <- supervise(ctx, telemetry.NewLog(log, new(slog.LevelVar)), []devBackend{{Name: "redis", process: r.Process}})
	}()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Exited()
	poll.Until(t, "it is back", func() bool { return r.Pid() != before && answers(r.Addr) })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
