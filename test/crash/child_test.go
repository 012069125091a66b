package crash_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// A child is one process of `bindery serve`.
type child struct {
	process *os.Process
	ready   chan struct{} // closed when it answers
	exited  chan struct{} // closed when it has ended
	err     error         // how; read after exited

	out *output

	mu           sync.Mutex
	partial      []byte
	url, metrics string
	began        bool
	at           time.Time // when it began to answer, by its own log
}

// output is what all processes of one test wrote.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) write(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// tail returns the last lines, for a test that failed.
func (o *output) tail(n int) string {
	s := o.String()
	return s[max(0, len(s)-n):]
}

// spawn starts the program from a thread that lives as long as it, so that no
// process outlives the test.
func spawn(program, config string, out *output) (*child, error) {
	c := &child{ready: make(chan struct{}), exited: make(chan struct{}), out: out}
	cmd := exec.Command(program, "serve", "-c", config)
	cmd.Stderr = c
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1 exitcode=66")
	cmd.SysProcAttr = dieWithParent()
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		c.err = cmd.Wait()
		close(c.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	c.process = cmd.Process
	return c, nil
}

// Write reads the log as it is written, to find out where the process listens.
func (c *child) Write(p []byte) (int, error) {
	c.out.write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.partial = append(c.partial, p...)
	for {
		line, rest, ok := bytes.Cut(c.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		c.partial = rest
		if !c.began {
			c.read(line)
		}
	}
}

func (c *child) read(line []byte) {
	var l struct {
		Time             time.Time
		Msg, Serves, URL string
	}
	if json.Unmarshal(line, &l) != nil {
		return
	}
	switch {
	case l.Msg == "listening" && l.Serves == "metrics":
		c.metrics = l.URL
	case l.Msg == "listening" && c.url == "":
		c.url = l.URL
	case l.Msg == "started":
		c.began, c.at = true, l.Time
		close(c.ready)
	}
}

// waitReady returns when it answers, or why it does not.
func (c *child) waitReady(limit time.Duration) error {
	select {
	case <-c.ready:
		return nil
	case <-c.exited:
		return fmt.Errorf("bindery ended: %w", c.err)
	case <-time.After(limit):
		return fmt.Errorf("bindery is not ready after %v", limit)
	}
}

// kill ends it at once and returns when it is gone.
func (c *child) kill() {
	_ = c.process.Signal(syscall.SIGKILL) // it may have ended by itself
	<-c.exited
}

// failure says how it ended by itself; nil while it runs, or where it was killed.
func (c *child) failure() error {
	select {
	case <-c.exited:
		if s, ok := c.status(); ok && s.Signaled() && s.Signal() == syscall.SIGKILL {
			return nil
		}
		return fmt.Errorf("bindery ended by itself: %v", c.err) //nolint:errorlint // nil is a failure too
	default:
		return nil
	}
}

func (c *child) status() (syscall.WaitStatus, bool) {
	e, ok := c.err.(*exec.ExitError) //nolint:errorlint // exec returns it as it is
	if !ok {
		return 0, false
	}
	s, ok := e.Sys().(syscall.WaitStatus)
	return s, ok
}

func (c *child) urls() (requests, metrics string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.url, c.metrics
}

// since is when it began to answer.
func (c *child) since() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// term asks it to end, and returns how it did.
func (c *child) term(limit time.Duration) error {
	if err := c.process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-c.exited:
		return c.err
	case <-time.After(limit):
		c.kill()
		return fmt.Errorf("bindery did not end within %v", limit)
	}
}
