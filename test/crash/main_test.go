package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// soak asks for the long versions.
var soak = os.Getenv("BINDERY_SOAK") == "1"

// pick returns what the short version takes, or the long one.
func pick[T any](short, long T) T {
	if soak {
		return long
	}
	return short
}

// programs is where the program is built to.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "bindery-crash-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := os.RemoveAll(programs); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// raced is the program with the race detector in it, plain is what people run.
var (
	raced = sync.OnceValues(func() (string, error) { return build("raced", nil, "-race") })
	plain = sync.OnceValues(func() (string, error) { return build("plain", []string{"CGO_ENABLED=0"}) })
)

func build(name string, env []string, flags ...string) (string, error) {
	file := filepath.Join(programs, name)
	args := append(append([]string{"build"}, flags...), "-o", file, "bindery/cmd/bindery")
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return file, nil
}

// chance returns this test's source of chance. Its seed is printed, and
// BINDERY_SEED repeats one.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("BINDERY_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("BINDERY_SEED: %v", err)
		}
	}
	t.Logf("BINDERY_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// eventually asks until there is no error any more.
func eventually(ctx context.Context, limit time.Duration, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if last == nil || ctx.Err() == nil {
			last = err // and not that the time was over in the midst of it
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", limit, last)
		case <-tick.C:
		}
	}
}
