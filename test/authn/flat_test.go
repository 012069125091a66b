package authn

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// Over 100,000 authentications, some of them on new connections, memory and open
// files stay what they were after 10,000.
func TestMemoryAndFilesStayFlat(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("this system does not tell")
	}
	w := start(t, trusted)
	sample := w.sample("k")
	uuid := w.serviceOf("svc", "ams", "api-key", sample.Host, sample.Port, `"access_key":"k"`)
	const clients = 8
	workloads := make([]*http.Client, clients)
	for i := range workloads {
		name := fmt.Sprintf("w%d", i)
		workloads[i] = w.workload(name)
		w.call(http.MethodPost, "/v1/bindings/"+name, bindingBody(uuid, sample.Host, "CN="+name, name), http.StatusCreated)
	}
	authenticate := func(n int64) {
		t.Helper()
		var done atomic.Int64
		var wg sync.WaitGroup
		for i, c := range workloads {
			wg.Go(func() {
				for {
					serial := done.Add(1)
					if serial > n {
						return
					}
					if serial%500 == 0 {
						c.CloseIdleConnections()
					}
					if status, got := w.token(c, "svc", sample.Host); status != http.StatusOK || got != sample.Token(fmt.Sprintf("w%d", i)) {
						t.Errorf("got %d %s", status, got)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	memory := func() int64 {
		t.Helper()
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.cmd.Process.Pid))
		w.must(err)
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
				n, err := strconv.ParseInt(f[1], 10, 64)
				w.must(err)
				return n
			}
		}
		t.Fatal("the system does not tell the memory")
		return 0
	}
	files := func() int {
		t.Helper()
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.cmd.Process.Pid))
		w.must(err)
		return len(all)
	}
	authenticate(10_000)
	memoryBefore, filesBefore := memory(), files()
	authenticate(90_000)
	memoryAfter, filesAfter := memory(), files()
	t.Logf("after 10,000: %d KiB, %d files; after 100,000: %d KiB, %d files", memoryBefore, filesBefore, memoryAfter, filesAfter)
	if memoryAfter*10 > memoryBefore*12 {
		t.Errorf("memory grew from %d to %d KiB", memoryBefore, memoryAfter)
	}
	if filesAfter*10 > filesBefore*12 {
		t.Errorf("open files grew from %d to %d", filesBefore, filesAfter)
	}
}
