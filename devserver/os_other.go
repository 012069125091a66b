//go:build !linux

package devserver

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Outside of Linux nothing can be started: this file only lets the package, and
// so the program, compile. The proxy and the certificates work everywhere.

var errLinux = errors.New("private servers are started on Linux only")

type account struct{ set bool }

func unprivileged() (account, error)                      { return account{}, errLinux }
func (account) attributes(os.Signal) *syscall.SysProcAttr { return nil }
func (account) give(string) error                         { return nil }
func (account) reaches(string) (bool, error)              { return true, nil }

func tryLock(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
}

func unlock(f *os.File) error { return f.Close() }

func closeListener(l net.Listener) error { return l.Close() }

func private(info fs.FileInfo) bool { return info.IsDir() }

func processesIn(string, string) ([]int, error) { return nil, errLinux }
func freeze([]int) bool                         { return true }
func alive([]int) []int                         { return nil }
func thaw([]int)                                {}
func kill([]int)                                {}

func sharedMemory(string, []int) func() { return func() {} }
