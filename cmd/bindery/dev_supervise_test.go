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
)

func TestDevStartsAServerAgain(t *testing.T) {
	t.Parallel()
	r := servertest.Redis(t)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	log := &logBuffer{}
	before := r.Pid()
	go func() {
		done <- supervise(ctx, telemetry.NewLog(log, new(slog.LevelVar)), []devBackend{{Name: "redis", process: r.Process}})
	}()
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Exited()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for r.Pid() == before || !answers(r.Addr) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not back\n%s", log)
		}
		<-tick.C
	}
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
