package devserver

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// An account is whom a server runs as. The zero account is whoever runs this process.
type account struct {
	set      bool
	uid, gid uint32
}

// unprivileged returns the account that a server which refuses root runs as:
// nobody else's where this process is not root's.
func unprivileged() (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("group of user %s: %w", name, err)
		}
		if uid != 0 {
			return account{set: true, uid: uint32(uid), gid: uint32(gid)}, nil
		}
	}
	return account{}, errors.New("this process is root, and there is neither a user postgres nor a user nobody to start the server as")
}

// attributes make a process that runs as a, in a process group of its own so that
// a terminal's interrupt does not reach it, and that gets the signal when the
// thread that started it ends.
func (a account) attributes(death os.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if s, ok := death.(syscall.Signal); ok {
		attr.Pdeathsig = s
	}
	if a.set {
		attr.Credential = &syscall.Credential{Uid: a.uid, Gid: a.gid}
	}
	return attr
}

// give hands a file or a directory to the account.
func (a account) give(path string) error {
	if !a.set {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// reaches reports whether the account may read path, and search it and every
// directory above it.
func (a account) reaches(path string) (bool, error) {
	if !a.set {
		return true, nil
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return false, err
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return false, err
	}
	for want := fs.FileMode(5); ; want = 1 {
		info, err := os.Stat(path)
		if err != nil {
			return false, err
		}
		mode := info.Mode().Perm()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			switch {
			case st.Uid == a.uid:
				mode >>= 6
			case st.Gid == a.gid:
				mode >>= 3
			}
		}
		if mode&want != want {
			return false, nil
		}
		if path == filepath.Dir(path) {
			return true, nil
		}
		path = filepath.Dir(path)
	}
}

// tryLock returns an open, locked file, or nil where another process holds the
// lock. [unlock] gives it back; it also ends with the process.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = nil
	}
	return nil, errors.Join(err, f.Close())
}

// unlock does not just close the file: a process that is being forked at this
// moment has it, too, until it runs its program.
func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// closeListener does not just close the listener, for the same reason: the other
// process would go on accepting connections.
func closeListener(l net.Listener) error {
	if tcp, ok := l.(*net.TCPListener); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) }) // closing it follows
		}
	}
	return l.Close()
}

// private reports whether only this process's user can change what is in the directory.
func private(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.IsDir() && int(st.Uid) == os.Geteuid() && info.Mode().Perm()&0o022 == 0
}

// processesIn finds the processes that run a program of this name in exactly this
// working directory: a server and its children. Threads and zombies are not listed.
func processesIn(dir, name string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// A process that has ended meanwhile, or is somebody else's, cannot be read.
		if cwd, err := os.Readlink(filepath.Join("/proc", e.Name(), "cwd")); err != nil || cwd != dir {
			continue
		}
		exe, err := os.Readlink(filepath.Join("/proc", e.Name(), "exe"))
		if err != nil || filepath.Base(strings.TrimSuffix(exe, " (deleted)")) != name {
			continue
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	return pids, nil
}

// freeze stops the processes and reports whether all of them stood still already.
func freeze(pids []int) bool {
	still := true
	for _, pid := range pids {
		if !stopped(pid) {
			still = false
			_ = syscall.Kill(pid, syscall.SIGSTOP) // ended meanwhile: not listed next time
		}
	}
	return still
}

// stopped reports whether a process stands still, or is gone.
func stopped(pid int) bool { return strings.ContainsRune("TtZX", stateOf(pid)) }

// alive returns those of the processes that are still there. One that ends is no
// longer listed by [processesIn] before its connections are closed.
func alive(pids []int) []int {
	return slices.DeleteFunc(pids, func(pid int) bool { return strings.ContainsRune("ZX", stateOf(pid)) })
}

// stateOf returns the kernel's letter for a process's state: T for one that was
// stopped, Z for one that has ended, X also for one that is gone.
func stateOf(pid int) rune {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 'X'
	}
	// pid (name) state …, where the name may contain anything
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	if len(rest) == 0 {
		return 'X'
	}
	return rune(rest[0])
}

func thaw(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGCONT) // ended meanwhile
	}
}

func kill(pids []int) {
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // ended meanwhile
	}
}

// sharedMemory returns a function that frees the one thing which a killed
// PostgreSQL leaves behind outside of its directory: a tiny System V segment, of
// which a machine has 4096. It must be called before the server is gone, because
// afterwards nobody can tell whose the segment is.
func sharedMemory(dir string, pids []int) (free func()) {
	nothing := func() {}
	if len(pids) == 0 {
		return nothing
	}
	b, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		return nothing
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 7 {
		return nothing
	}
	keyAndID := strings.Fields(lines[6])
	if len(keyAndID) != 2 {
		return nothing
	}
	id, err := strconv.Atoi(keyAndID[1])
	if err != nil {
		return nothing
	}
	return func() {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil) // if this fails, the next start in the directory does it
	}
}
