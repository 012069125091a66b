package devserver

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// What the tests see of the inside.
var (
	RemoveCluster   = removeCluster
	FreePort        = freePort
	ReturnPort      = returnPort
	ForServer       = forServer
	SetupScript     = setupScript
	CompareVersions = compareVersions
	NewProxyOn      = newProxyOn
	Loopback        = loopback
)

func (p *Process) WorkDir() string { return p.workDir }

func (p *Process) BinDir() string { return filepath.Dir(p.program) }

// LeaveBehind starts the server as a process that is nobody's, as if whoever
// started it had been killed and the kernel had forgotten to tell the server.
func (p *Process) LeaveBehind(t *testing.T) (ended <-chan struct{}) {
	t.Helper()
	cmd := exec.Command(p.program, p.arguments...)
	cmd.Dir = p.workDir
	cmd.Env = environment(p.workDir)
	cmd.SysProcAttr = p.account.attributes(nil)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // has ended, if the test has not failed
		<-done
	})
	return done
}

// Runs reports whether a server runs in the directory.
func Runs(t *testing.T, dir string) bool {
	t.Helper()
	for _, name := range []string{"redis-server", "redis-check-rdb", "postgres"} {
		pids, err := processesIn(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) > 0 {
			return true
		}
	}
	return false
}
