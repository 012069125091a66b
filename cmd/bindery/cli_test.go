package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts of the client commands run the program against brokers of
// somebody else, whose answers were written down by hand, and against `bindery dev`.
func TestClientScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/cli", map[string]scriptCommand{
		"broker": startForeign, "asked": foreignAsked, "exits": exits, "interrupt": interruptWhenAsked,
		"pki": makePKI,
	})
}

// A foreign broker says what a file has written down for each request: lines of
// "METHOD PATH STATUS [Header:value] [BODY]". Of several lines for one request
// each is said once, the last one for ever.
type foreignBroker struct {
	mu      sync.Mutex
	answers []string
	asked   []string
	news    chan struct{} // closed and made anew with every request
}

func (f *foreignBroker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	close(f.news)
	f.news = make(chan struct{})
	if _, password, _ := r.BasicAuth(); password != "open sesame" && r.Header.Get("Authorization") != "Bearer open sesame" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	question := r.Method + " " + r.URL.EscapedPath() + " "
	is := func(line string) bool { return strings.HasPrefix(line, question) }
	i := slices.IndexFunc(f.answers, is)
	if i < 0 {
		http.Error(w, "nothing is written down for "+question, http.StatusNotFound)
		return
	}
	status, answer, _ := strings.Cut(strings.TrimPrefix(f.answers[i], question), " ")
	if slices.ContainsFunc(f.answers[i+1:], is) {
		f.answers = slices.Delete(f.answers, i, i+1)
	}
	if header, rest, ok := strings.Cut(answer, " "); ok && !strings.HasPrefix(header, "{") {
		name, value, _ := strings.Cut(header, ":")
		w.Header().Set(name, value)
		answer = rest
	}
	code, err := strconv.Atoi(status)
	if err != nil {
		panic("not a status: " + f.answers[i])
	}
	w.WriteHeader(code)
	_, _ = io.WriteString(w, answer)
}

// broker FILE: starts a foreign broker and lets the environment point at it.
func startForeign(ts *testscript.TestScript, _ bool, args []string) {
	f := &foreignBroker{news: make(chan struct{})}
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			f.answers = append(f.answers, line)
		}
	}
	server := httptest.NewServer(f)
	ts.Defer(server.Close)
	ts.Setenv("SB_BROKER_URL", server.URL)
	ts.Setenv("SB_BROKER_USERNAME", "somebody")
	ts.Setenv("SB_BROKER_PASSWORD", "open sesame")
	foreignBrokers.Store(ts.Name(), f)
}

// foreignBrokers are those of the scripts that run, by the script's name.
var foreignBrokers sync.Map

func foreignOf(ts *testscript.TestScript) *foreignBroker {
	found, _ := foreignBrokers.Load(ts.Name())
	f, ok := found.(*foreignBroker)
	if !ok {
		ts.Fatalf("no broker is running")
	}
	return f
}

// asked TEXT: the broker was asked something that has TEXT in it. ! asked: it was not.
func foreignAsked(ts *testscript.TestScript, neg bool, args []string) {
	f := foreignOf(ts)
	f.mu.Lock()
	defer f.mu.Unlock()
	found := slices.ContainsFunc(f.asked, func(s string) bool { return strings.Contains(s, args[0]) })
	if found == neg {
		ts.Fatalf("asked was:\n%s", strings.Join(f.asked, "\n"))
	}
}

// exits CODE COMMAND...: runs the command, which must end with this code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	checkExit(ts, args[0], ts.Exec(args[1], args[2:]...))
}

func checkExit(ts *testscript.TestScript, want string, err error) {
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

// interrupt CODE TEXT COMMAND...: runs the command, presses Ctrl-C when the
// broker is asked something with TEXT in it, and expects the code. What it wrote
// is in the files out and err.
func interruptWhenAsked(ts *testscript.TestScript, _ bool, args []string) {
	f := foreignOf(ts)
	path, err := exec.LookPath(args[2])
	ts.Check(err)
	var out, errOut strings.Builder
	cmd := exec.Command(path, args[3:]...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	for _, name := range []string{"SB_BROKER_URL", "SB_BROKER_USERNAME", "SB_BROKER_PASSWORD"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	f.mu.Lock()
	before := len(f.asked)
	f.mu.Unlock()
	ts.Check(cmd.Start())
	limit := time.After(time.Minute)
	for {
		f.mu.Lock()
		news := f.news
		found := slices.ContainsFunc(f.asked[before:], func(s string) bool { return strings.Contains(s, args[1]) })
		f.mu.Unlock()
		if found {
			break
		}
		select {
		case <-news:
		case <-limit:
			_ = cmd.Process.Kill()
			ts.Fatalf("nobody asked for %s:\n%s", args[1], errOut.String())
		}
	}
	ts.Check(cmd.Process.Signal(os.Interrupt))
	checkExit(ts, args[0], cmd.Wait())
	ts.Check(os.WriteFile(ts.MkAbs("out"), []byte(out.String()), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("err"), []byte(errOut.String()), 0o600))
}
