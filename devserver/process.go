package devserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrMissing is in the chain of errors that mean: the server's program is not installed.
var ErrMissing = errors.New("program not found")

const (
	// startLimit bounds a start whose context has no earlier deadline.
	startLimit = 2 * time.Minute
	// killLimit bounds the wait for killed processes to be gone.
	killLimit = 10 * time.Second
	// pollInterval is the pause between two looks at something that cannot be waited for.
	pollInterval = 5 * time.Millisecond
	// outputLimit is how much of a server's output an error quotes.
	outputLimit = 4 << 10
)

// A Process is one private server. Its methods may be called from several
// goroutines; they wait for each other.
type Process struct {
	dir     string    // the lock, the state and the output
	workDir string    // the server's working directory, by which its processes are known
	program string    // the program's file
	name    string    // the program's name, without symbolic links, by which its processes are known as well
	account account   // whom the server runs as
	death   os.Signal // what the server gets when this process dies
	quit    os.Signal // what asks the server to stop

	arguments []string
	env       []string                    // beside [environment]
	configure func() error                // writes the configuration, before each start
	login     func(context.Context) error // one attempt; errNotYet: try again
	discard   func() error                // removes what is kept outside of dir

	busy sync.Mutex // serialises Start, Stop, Kill, Pause, Resume, Remove
	lock *os.File   // held from the first start to Stop

	mu      sync.Mutex    // guards what follows
	chief   *os.Process   // the process that was started; its children are found by workDir
	exited  chan struct{} // closed when chief has ended
	failure error         // how chief ended
	offset  int64         // where the output of this start begins
}

// use chooses the program.
func (p *Process) use(program string) error {
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		return err
	}
	p.program, p.name = program, filepath.Base(real)
	return nil
}

// title is what errors call the server.
func (p *Process) title() string { return filepath.Base(p.program) }

// errNotYet: the server is there and asks for patience.
var errNotYet = errors.New("the server is not ready yet")

// Start starts the server again, on the same port and the same files, and
// returns when it accepts logins. On a running server it does nothing.
func (p *Process) Start(ctx context.Context) error {
	p.busy.Lock()
	defer p.busy.Unlock()
	return p.start(ctx)
}

func (p *Process) start(ctx context.Context) error {
	if p.running() {
		return nil
	}
	if err := p.own(); err != nil {
		return err
	}
	if err := p.killAll(); err != nil {
		return fmt.Errorf("end the server left behind in %s: %w", p.workDir, err)
	}
	if err := p.configure(); err != nil {
		return fmt.Errorf("configure %s: %w", p.title(), err)
	}
	if err := p.spawn(); err != nil {
		return fmt.Errorf("start %s: %w", p.program, err)
	}
	if err := p.waitReady(ctx); err != nil {
		return errors.Join(err, p.killAll())
	}
	return nil
}

// own takes the directory for this process, so that two of them never run
// servers on the same files.
func (p *Process) own() error {
	if p.lock != nil {
		return nil
	}
	lock, err := tryLock(filepath.Join(p.dir, "lock"))
	if err != nil {
		return err
	}
	if lock == nil {
		return fmt.Errorf("%s is in use by another process", p.dir)
	}
	p.lock = lock
	return nil
}

func (p *Process) disown() error {
	if p.lock == nil {
		return nil
	}
	err := unlock(p.lock)
	p.lock = nil
	return err
}

// spawn starts the process from a goroutine that keeps its thread until the
// process ends: the kernel sends the death signal when the parent's thread ends,
// and the runtime ends threads as it likes.
func (p *Process) spawn() error {
	out, err := os.OpenFile(p.outputFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // the server has its own copy
	end, err := out.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.program, p.arguments...) //nolint:gosec // the caller says which server to run
	cmd.Dir = p.workDir
	cmd.Env = append(environment(p.workDir), p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = p.account.attributes(p.death)

	exited := make(chan struct{})
	p.mu.Lock()
	p.offset, p.failure = end, nil
	p.mu.Unlock()
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.mu.Lock()
		p.failure = err
		p.mu.Unlock()
		close(exited)
	}()
	if err := <-started; err != nil {
		return err
	}
	p.mu.Lock()
	p.chief, p.exited = cmd.Process, exited
	p.mu.Unlock()
	return nil
}

// environment is all that a server sees of this process's environment.
func environment(home string) []string {
	env := []string{"HOME=" + home, "LC_ALL=C"}
	for _, name := range []string{"PATH", "LD_LIBRARY_PATH", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// waitReady returns when a login worked, when the process has ended, or when the context has.
func (p *Process) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	exited := p.Exited()
	for {
		attempt, stop := context.WithCancel(ctx)
		unhook := make(chan struct{})
		go func() { // a login must not outlast the server that it waits for
			select {
			case <-exited:
				stop()
			case <-unhook:
			}
		}()
		err := p.login(attempt)
		close(unhook)
		stop()
		if err == nil {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("%s stopped while starting: %w\n%s", p.title(), p.end(), p.Output())
		default:
		}
		if !errors.Is(err, errNotYet) && ctx.Err() == nil {
			// This may be somebody else's server on the same port; then this one is about to end.
			select {
			case <-exited:
				continue
			case <-time.After(time.Second):
			}
			return fmt.Errorf("log in to %s: %w\n%s", p.title(), err, p.Output())
		}
		select {
		case <-exited: // reported by the next round
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (%w)\n%s", p.title(), ctx.Err(), err, p.Output())
		case <-time.After(pollInterval):
		}
	}
}

// end says how the process ended.
func (p *Process) end() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure == nil {
		return errors.New("exit status 0")
	}
	return p.failure
}

// Exited returns a channel that is closed when the server's process has ended,
// for whatever reason. Every start makes a new one.
func (p *Process) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

// Dir is the directory with all of the server's files.
func (p *Process) Dir() string { return p.dir }

// Pid is the id of the server's first process, also after it has ended.
func (p *Process) Pid() int { return p.leader().Pid }

func (p *Process) leader() *os.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chief
}

func (p *Process) running() bool {
	exited := p.Exited()
	if exited == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
		return true
	}
}

// Output returns the last lines that the server printed since its latest start.
func (p *Process) Output() string {
	p.mu.Lock()
	from := p.offset
	p.mu.Unlock()
	f, err := os.Open(p.outputFile())
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // read only
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		from = max(from, end-outputLimit)
	}
	b := make([]byte, outputLimit)
	n, err := f.ReadAt(b, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	return strings.TrimSpace(string(b[:n]))
}

func (p *Process) outputFile() string { return filepath.Join(p.dir, "output.log") }

// Stop asks the server to stop and waits until it has; when the context ends
// first, it kills the server and returns the context's error. A paused server is
// resumed for it. A stopped server is left alone. The directory is then free for
// another process.
func (p *Process) Stop(ctx context.Context) error {
	p.busy.Lock()
	defer p.busy.Unlock()
	return errors.Join(p.stop(ctx), p.disown())
}

func (p *Process) stop(ctx context.Context) error {
	if p.lock == nil {
		return nil
	}
	if !p.running() {
		return p.killAll() // children can outlive a process that was killed from outside
	}
	pids, err := processesIn(p.workDir, p.name)
	if err != nil {
		return err
	}
	thaw(pids)
	if err := p.leader().Signal(p.quit); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.Exited():
		return p.killAll()
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("%s was killed, it did not stop: %w", p.title(), ctx.Err()), p.killAll())
	}
}

// Kill ends the server and all its children at once, as a crash of the machine
// would, and returns when they are gone. The directory stays reserved for
// [Process.Start].
func (p *Process) Kill() error {
	p.busy.Lock()
	defer p.busy.Unlock()
	if p.lock == nil {
		return nil
	}
	return p.killAll()
}

// killAll stops every process before it kills the first, so that none can
// start another meanwhile.
func (p *Process) killAll() error {
	ctx, cancel := context.WithTimeout(context.Background(), killLimit)
	defer cancel()
	for {
		pids, err := p.freezeAll(ctx)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			break
		}
		free := sharedMemory(p.workDir, pids)
		kill(pids)
		for pids = alive(pids); len(pids) > 0; pids = alive(pids) {
			if err := pause(ctx); err != nil {
				return fmt.Errorf("processes %v do not end: %w", pids, err)
			}
		}
		free()
	}
	if exited := p.Exited(); exited != nil {
		<-exited
	}
	return nil
}

// Pause stops the server and all its children in their tracks: connections
// stay, and nothing is answered.
func (p *Process) Pause() error {
	p.busy.Lock()
	defer p.busy.Unlock()
	if p.lock == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), killLimit)
	defer cancel()
	_, err := p.freezeAll(ctx)
	return err
}

// freezeAll returns when all processes of the server stand still, and which they are.
// What it found standing still it looks up once more: one could have started
// another after it was found and before it was stopped.
func (p *Process) freezeAll(ctx context.Context) ([]int, error) {
	var frozen []int
	for {
		pids, err := processesIn(p.workDir, p.name)
		if err != nil {
			return nil, err
		}
		still := freeze(pids)
		if still && frozen != nil && slices.Equal(pids, frozen) || len(pids) == 0 {
			return pids, nil
		}
		if still {
			frozen = pids
			continue
		}
		frozen = nil
		if err := pause(ctx); err != nil {
			return nil, fmt.Errorf("processes %v do not stand still: %w", pids, err)
		}
	}
}

// Resume lets a paused server go on.
func (p *Process) Resume() error {
	p.busy.Lock()
	defer p.busy.Unlock()
	if p.lock == nil {
		return nil
	}
	pids, err := processesIn(p.workDir, p.name)
	if err != nil {
		return err
	}
	thaw(pids)
	return nil
}

// Restart stops the server and starts it again.
func (p *Process) Restart(ctx context.Context) error {
	p.busy.Lock()
	defer p.busy.Unlock()
	if err := p.stop(ctx); err != nil {
		return err
	}
	return p.start(ctx)
}

// Remove kills the server and removes its directory and all that it kept.
func (p *Process) Remove() error {
	p.busy.Lock()
	defer p.busy.Unlock()
	if err := p.own(); err != nil {
		return err
	}
	if err := p.killAll(); err != nil {
		return err
	}
	return errors.Join(p.discard(), os.RemoveAll(p.dir), p.disown())
}

// pause waits for one poll interval, or says that the context has ended.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollInterval):
		return nil
	}
}
