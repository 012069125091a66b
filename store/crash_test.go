package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"bindery"
	"bindery/devserver/servertest"
	"bindery/seal"
	"bindery/store"
)

var when = time.Date(2024, 2, 29, 12, 30, 15, 0, time.UTC)

const (
	crashURL = "BINDERY_TEST_CRASH_URL"
	crashKey = "BINDERY_TEST_CRASH_KEY"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashURL) != "" {
		fmt.Fprintln(os.Stderr, acknowledge(os.Getenv(crashURL), os.Getenv(crashKey)))
		os.Exit(1)
	}
	servertest.Main(m)
}

// acknowledge is the child of TestKill: it writes the row of every instance that
// was committed, until it is killed.
func acknowledge(url, text string) error {
	key, err := seal.ParseKey(text)
	if err != nil {
		return err
	}
	keys, err := seal.NewKeyring(key)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Options{URL: url, Keys: keys})
	if err != nil {
		return err
	}
	errs := make(chan error)
	var out sync.Mutex
	for range 4 {
		go func() {
			for {
				row, err := s.NewID(ctx)
				if err != nil {
					errs <- err
					return
				}
				name := strconv.FormatInt(row, 10)
				i := bindery.Instance{Row: row, Platform: "p", ID: name, State: bindery.StateReady, Parameters: bindery.NewSecret("of " + name)}
				if err := s.Update(ctx, func(tx bindery.Tx) error { return tx.Instances().Add(ctx, i) }); err != nil {
					errs <- err
					return
				}
				out.Lock()
				fmt.Println(row)
				out.Unlock()
			}
		}()
	}
	return <-errs
}

// TestKill kills a process that commits, again and again on one file: every row
// that it acknowledged must be there, and no id may come twice.
func TestKill(t *testing.T) {
	t.Parallel()
	file, key := path(t), seal.NewKey()
	all := map[int64]bool{}
	for round := range 4 {
		for _, row := range killed(t, file, key, 50+2500*round) {
			if all[row] {
				t.Fatalf("row %d came twice", row)
			}
			all[row] = true
		}
		s := openFew(t, file, keyring(t, key))
		for row := range all {
			name := strconv.FormatInt(row, 10)
			hasInstance(t, s, bindery.Instance{Row: row, ID: name, Parameters: bindery.NewSecret("of " + name)})
		}
		row, err := s.NewID(t.Context())
		if err != nil || all[row] {
			t.Fatalf("new id: got %d, %v", row, err)
		}
		all[row] = true
		// Those of the next round must not be this one either, so it is used.
		i := bindery.Instance{Row: row, Platform: "p", ID: strconv.FormatInt(row, 10), State: bindery.StateReady, Parameters: bindery.NewSecret("of " + strconv.FormatInt(row, 10))}
		if err := s.Update(t.Context(), func(tx bindery.Tx) error { return tx.Instances().Add(t.Context(), i) }); err != nil {
			t.Fatal(err)
		}
		closed(t, s)
	}
}

// killed runs a child until it has acknowledged n rows, kills it, and returns all
// that it acknowledged.
func killed(t *testing.T, url string, key seal.Key, n int) []int64 {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), crashURL+"="+url, crashKey+"="+key.Reveal())
	child.Stderr = t.Output()
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var rows []int64
	for lines := bufio.NewScanner(pipe); lines.Scan(); {
		row, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil {
			break // the last line was cut
		}
		rows = append(rows, row)
		if len(rows) == n {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || len(rows) < n {
		t.Fatalf("the child ended by itself: %v, after %d rows", err, len(rows))
	}
	return rows
}
