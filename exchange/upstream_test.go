package exchange_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/exchange"
)

const deadline = 500 * time.Millisecond

// hijack answers with these bytes, and nothing of HTTP.
func hijack(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		if text == "" {
			_ = c.(*tls.Conn).NetConn().(*net.TCPConn).SetLinger(0) // a reset, not an end
		}
		_, _ = io.WriteString(c, text)
		_ = c.Close()
	}
}

// Whatever a service does, its callers get a clear error in time, with nothing
// from inside: not even the log hears of keys, or of what the service said.
func TestServicesMisbehave(t *testing.T) {
	t.Parallel()
	const said = "s3cr3t-said"
	elsewhere := newUpstream(t, giveToken)
	tests := map[string]struct {
		service http.HandlerFunc
		code    bindery.Code
		message string
	}{
		"hangs": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, bindery.CodeTimeout, "The service did not answer in time"},
		"drips": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}, bindery.CodeTimeout, "The service did not answer in time"},
		"resets":              {hijack(""), bindery.CodeUpstream, "The service cannot be reached"},
		"is no HTTP":          {hijack(said + " garbage\r\n\r\n"), bindery.CodeUpstream, "The service cannot be reached"},
		"has a broken header": {hijack("HTTP/1.1 200 OK\r\n" + said + "\r\n\r\n"), bindery.CodeUpstream, "The service cannot be reached"},
		"ends early":          {hijack("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"token\": \"" + said), bindery.CodeUpstream, "The service cannot be reached"},
		"is no JSON":          {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, said) }, bindery.CodeUpstream, "The service gave an answer that has no token"},
		"is a JSON list":      {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `["`+said+`"]`) }, bindery.CodeUpstream, "The service gave an answer that has no token"},
		"is null":             {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `null`) }, bindery.CodeUpstream, "The service gave an answer that has no token"},
		"has no field":        {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"Token":"`+said+`"}`) }, bindery.CodeUpstream, "The service gave an answer that has no token"},
		"is empty":            {func(http.ResponseWriter, *http.Request) {}, bindery.CodeUpstream, "The service gave an answer that has no token"},
		"is 10 MiB": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"token": "%s"}`, strings.Repeat("x", 10<<20))
		}, bindery.CodeUpstream, "The service gave an answer that has no token"},
		"is 10 MiB and says so": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "10485760")
			_, _ = io.WriteString(w, strings.Repeat(" ", 10<<20))
		}, bindery.CodeUpstream, "The service gave an answer that has no token"},
		"has a long header": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
			_, _ = io.WriteString(w, `{"token": "t"}`)
		}, bindery.CodeUpstream, "The service cannot be reached"},
		"nests its token without end": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"token": `+strings.Repeat("[", 33)+strings.Repeat("]", 33)+`}`)
		}, bindery.CodeUpstream, "The service gave an answer that has no token"},
		// And then says nothing: this has no deadline but the caller's patience.
		"speaks something else": {func(w http.ResponseWriter, r *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer func() { _ = c.Close() }()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			_, _ = io.Copy(io.Discard, c) // until Bindery ends it
		}, bindery.CodeUpstream, "The service refused the request"},
		"refuses":           {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, said, http.StatusUnauthorized) }, bindery.CodeUpstream, "The service refused the request"},
		"is ill":            {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, said, http.StatusInternalServerError) }, bindery.CodeUpstream, "The service refused the request"},
		"is empty with 204": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, bindery.CodeUpstream, "The service refused the request"},
		"sends elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://"+net.JoinHostPort(elsewhere.host, fmt.Sprint(elsewhere.port))+r.URL.String(), http.StatusFound)
		}, bindery.CodeUpstream, "The service refused the request"},
	}
	t.Cleanup(func() {
		if n := len(elsewhere.requests()); n != 0 {
			t.Errorf("a redirect was followed %d times", n)
		}
	})
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, u, alice := bound(t, tt.service, func(o *exchange.Options) {
				if o.Types[0].Timeout = patience; tt.code == bindery.CodeTimeout {
					o.Types[0].Timeout = deadline
				}
			})
			began := time.Now()
			_, err := w.Token(t.Context(), alice, "ams1", u.host)
			if took := time.Since(began); tt.code == bindery.CodeTimeout && took > deadline+5*time.Second {
				t.Errorf("it took %v", took)
			}
			refused(t, err, tt.code, tt.message)
			for _, secret := range []string{accessKey, said, uniqueKey} {
				if strings.Contains(err.Error(), secret) || strings.Contains(w.log.String(), secret) {
					t.Errorf("%q is in %q, or in the log: %s", secret, err, w.log)
				}
			}
			if all := w.seen.list(); len(all) != 1 || all[0].Code != tt.code {
				t.Errorf("observed %+v", all)
			}
		})
	}
}

func TestServicesThatAreNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *exchange.Options) { o.Types[1].CAFile = "" })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := &upstream{host: "127.0.0.1", port: l.Addr().(*net.TCPAddr).Port}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	alice := w.bind("down", down, "alice")
	_, err = w.Token(t.Context(), alice, "down", down.host)
	refused(t, err, bindery.CodeUpstream, "The service cannot be reached")
	if !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), accessKey) {
		t.Errorf("the log would say %q", err)
	}
	// A service whose certificate nobody vouches for is asked nothing.
	u := newUpstream(t, giveToken)
	in := serviceInput("untrusted", u.host)
	in.Type = ptr("web-api")
	s := must(w.CreateServiceType(t.Context(), admin, in))(t)
	w.method("untrusted", u.host, u.port)
	w.binding("untrusted", s, u.host, "CN=alice")
	_, err = w.Token(t.Context(), who(t, "CN=alice"), "untrusted", u.host)
	refused(t, err, bindery.CodeUpstream, "The service cannot be reached")
	if n := len(u.requests()); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
	if !strings.Contains(err.Error(), "certificate") {
		t.Errorf("the log would say %q", err)
	}
}

func TestUnverifiedServices(t *testing.T) {
	t.Parallel()
	w, u, alice := bound(t, giveToken, func(o *exchange.Options) { o.Types[0].CAFile, o.Types[0].InsecureSkipVerify = "", true })
	must(w.Token(t.Context(), alice, "ams1", u.host))(t)
}

// clock is one that a test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(0, c.at.Load()) }

func TestBreaker(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	var c clock
	c.at.Store(time.Now().UnixNano())
	hold := make(chan chan struct{}, 1)
	w, u, alice := bound(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case goOn := <-hold:
			<-goOn
		default:
		}
		if broken.Load() {
			hijack("")(w, r)
			return
		}
		giveToken(w, r)
	}, func(o *exchange.Options) { o.Now, o.BreakAfter, o.BreakFor = c.now, 3, time.Minute })
	asked := func() int { return len(u.requests()) }
	ask := func() error {
		_, err := w.Token(t.Context(), alice, "ams1", u.host)
		return err
	}
	broken.Store(true)
	for range 2 {
		refused(t, ask(), bindery.CodeUpstream, "The service cannot be reached")
	}
	broken.Store(false) // an answer in between: the count begins anew
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	for range 3 {
		last := asked()
		refused(t, ask(), bindery.CodeUpstream, "The service cannot be reached")
		if asked() == last {
			t.Error("it was not asked, after fewer failures in a row than it takes")
		}
	}
	before := asked()
	refused(t, ask(), bindery.CodeUpstream, "The service cannot be reached")
	if asked() != before {
		t.Error("it was asked though the breaker is open")
	}
	c.at.Add(int64(time.Minute))
	refused(t, ask(), bindery.CodeUpstream, "The service cannot be reached") // the call that tries fails
	refused(t, ask(), bindery.CodeUpstream, "The service cannot be reached")
	// A broken connection that was kept alive is tried again by the transport, so that a try may be two requests.
	tried := asked()
	refused(t, ask(), bindery.CodeUpstream, "The service cannot be reached")
	if asked() != tried || tried == before {
		t.Errorf("asked %d, then %d, then %d times", before, tried, asked())
	}
	c.at.Add(int64(time.Minute))
	broken.Store(false)
	// While one call tries, no other is made.
	goOn := make(chan struct{})
	hold <- goOn
	trying := make(chan error, 1)
	go func() { trying <- ask() }()
	eventually(t, "one call tries", func() bool { return asked() == tried+1 })
	bob := "CN=bob"
	w.binding("bob", must(w.ServiceType(t.Context(), admin, "ams1"))(t), u.host, bob)
	_, err := w.Token(t.Context(), who(t, bob), "ams1", u.host)
	refused(t, err, bindery.CodeUpstream, "The service cannot be reached")
	close(goOn)
	if err := <-trying; err != nil {
		t.Errorf("the call that tries: %v", err)
	}
	if _, err := w.Token(t.Context(), who(t, bob), "ams1", u.host); err != nil {
		t.Errorf("after a good answer: %v", err)
	}
	// A service that refuses is there: that opens nothing.
}

// An answer that is too long costs as much as is read of it, and a connection: no
// more than the bound is read, and a host that gives nothing else is left alone, as
// one that is down.
func TestBreakerOfLongAnswers(t *testing.T) {
	t.Parallel()
	const whole = 64 << 20
	for name, says := range map[string]bool{"that say so": true, "that do not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			part := []byte(strings.Repeat(" ", 64<<10))
			taken := make(chan int, 8) // also where it is asked too often
			w, u, alice := bound(t, func(w http.ResponseWriter, _ *http.Request) {
				if says {
					w.Header().Set("Content-Length", fmt.Sprint(whole))
				}
				n := 0
				for n < whole {
					more, err := w.Write(part)
					if n += more; err != nil {
						break
					}
				}
				taken <- n
			}, func(o *exchange.Options) { o.MaxResponse, o.BreakAfter, o.BreakFor = 16<<10, 3, time.Hour })
			for n := range 3 {
				_, err := w.Token(t.Context(), alice, "ams1", u.host)
				refused(t, err, bindery.CodeUpstream, "The service gave an answer that has no token")
				if got := <-taken; got > whole/2 { // what the sockets hold
					t.Errorf("it could send %d bytes", got)
				}
				if got := u.connections(); got != n+1 {
					t.Errorf("%d connections for %d answers", got, n+1)
				}
			}
			_, err := w.Token(t.Context(), alice, "ams1", u.host)
			refused(t, err, bindery.CodeUpstream, "The service cannot be reached")
			if n := len(u.requests()); n != 3 {
				t.Errorf("it was asked %d times, want 3", n)
			}
		})
	}
}

// A service that hangs costs its own callers, and nobody else.
func TestSlowServiceSlowsNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *exchange.Options) {
		o.PerHost, o.MaxWait = 4, 50*time.Millisecond
		o.Types[0].Timeout = patience
	})
	end := make(chan struct{})
	slow := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-end:
		case <-r.Context().Done():
		}
	})
	good := newUpstream(t, giveToken)
	goodID := w.bind("good", good, "alice")
	s := w.service("slow", slow.host)
	w.method("slow", slow.host, slow.port)
	var waiting sync.WaitGroup
	var busy atomic.Int64
	for i := range 12 {
		dn := fmt.Sprintf("CN=user %d", i)
		w.binding(dn, s, slow.host, dn)
		id := who(t, dn)
		waiting.Go(func() {
			if _, err := w.Token(t.Context(), id, "slow", slow.host); bindery.MessageOf(err) == "The service is busy" {
				busy.Add(1)
			}
		})
	}
	eventually(t, "more than may are refused", func() bool { return busy.Load() == 8 })
	if n := len(slow.requests()); n != 4 {
		t.Errorf("%d calls at a time, want 4", n)
	}
	began := time.Now()
	for range 20 {
		must(w.Token(t.Context(), goodID, "good", good.host))(t)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("20 calls of another service took %v", took)
	}
	close(end)
	waiting.Wait()
}

func TestTypesAreChecked(t *testing.T) {
	t.Parallel()
	s := newWorld(t).store
	tests := map[string]struct {
		typ  exchange.Type
		want string
	}{
		"no name":        {exchange.Type{Path: "/{{identifier}}", Field: "f"}, "is missing"},
		"no field":       {exchange.Type{Name: "a", Path: "/{{identifier}}"}, "is missing"},
		"no path":        {exchange.Type{Name: "a", Field: "f"}, "must begin with"},
		"another host":   {exchange.Type{Name: "a", Path: "//evil/{{identifier}}", Field: "f"}, "must begin with"},
		"same for all":   {exchange.Type{Name: "a", Path: "/x", Field: "f"}, "same token"},
		"a fragment":     {exchange.Type{Name: "a", Path: "/{{identifier}}#x", Field: "f"}, "fragment"},
		"unknown mark":   {exchange.Type{Name: "a", Path: "/{{identifier}}/{{name}}", Field: "f"}, "braces"},
		"broken mark":    {exchange.Type{Name: "a", Path: "/{{identifier}}/{{access_key}", Field: "f"}, "braces"},
		"broken escape":  {exchange.Type{Name: "a", Path: "/{{identifier}}/%zz", Field: "f"}, "no path"},
		"no such CA":     {exchange.Type{Name: "a", Path: "/{{identifier}}", Field: "f", CAFile: "/none"}, "no such file"},
		"CA that is not": {exchange.Type{Name: "a", Path: "/{{identifier}}", Field: "f", CAFile: "upstream_test.go"}, "has no certificate"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			o.Types = []exchange.Type{tt.typ}
			_, err := exchange.New(s, o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := exchange.New(s, exchange.Options{}); err == nil {
		t.Error("it works without a clock")
	}
}
