package api_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/api"
	"bindery/test/poll"
)

// stream serves /x/{n}: n parts of 1 KiB, and an error in the end for /x/{n}:fails.
func stream(t *testing.T) (server *httptest.Server, log *poll.Buffer) {
	t.Helper()
	log = &poll.Buffer{}
	part := strings.Repeat("x", 1<<10)
	serve := func(c *api.Call, end func(*api.Stream) error) error {
		s := c.Stream("text/plain")
		for range len(c.Param("n")) {
			if _, err := io.WriteString(s, part); err != nil {
				break
			}
		}
		return end(s)
	}
	router := api.NewRouter(
		api.Route{Method: http.MethodGet, Pattern: "/x/{n}:fails", Serve: func(c *api.Call) error {
			return serve(c, func(s *api.Stream) error {
				return s.Fail(bindery.Errorf(bindery.CodeUnavailable, "later").Because(errors.New("SECRET-CAUSE")))
			})
		}},
		api.Route{Method: http.MethodGet, Pattern: "/x/{n}", Serve: func(c *api.Call) error {
			return serve(c, func(s *api.Stream) error { s.Close(); return nil })
		}},
	)
	h := &api.Handler{
		Faces: []api.Face{{Name: "x", Segment: "x", Serve: router.Serve}}, Now: time.Now, Log: slog.New(slog.NewJSONHandler(log, nil)),
	}
	server = httptest.NewUnstartedServer(h)
	server.Config = api.NewServer(h, slog.New(slog.DiscardHandler))
	server.Config.WriteTimeout = time.Second
	server.Start()
	t.Cleanup(server.Close)
	return server, log
}

func TestStreams(t *testing.T) {
	t.Parallel()
	server, log := stream(t)
	few, many := strings.Repeat("n", 5), strings.Repeat("n", 500)
	for name, tt := range map[string]struct {
		method, path string
		status       int
		length, body int64 // length -1: not told
		cut          bool
	}{
		"nothing":               {"GET", "/x/", 200, 0, 0, false},
		"what fits":             {"GET", "/x/" + few, 200, 5 << 10, 5 << 10, false},
		"what does not":         {"GET", "/x/" + many, 200, -1, 500 << 10, false},
		"a failure in time":     {"GET", "/x/" + few + ":fails", 503, 46, 46, false},
		"a failure too late":    {"GET", "/x/" + many + ":fails", 200, -1, 0, true},
		"HEAD of what fits":     {"HEAD", "/x/" + few, 200, 5 << 10, 0, false},
		"HEAD of what does not": {"HEAD", "/x/" + many, 200, -1, 0, false},
	} {
		req, err := http.NewRequest(tt.method, server.URL+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != tt.status || resp.ContentLength != tt.length || (err != nil) != tt.cut {
			t.Errorf("%s: got %d with length %d (%v)", name, resp.StatusCode, resp.ContentLength, err)
		}
		if err == nil && int64(len(body)) != tt.body {
			t.Errorf("%s: got %d bytes", name, len(body))
		}
		if bytes.Contains(body, []byte("SECRET")) {
			t.Errorf("%s: the cause is told", name)
		}
	}
	if n := strings.Count(log.String(), "SECRET-CAUSE"); n != 2 {
		t.Errorf("the operator sees %d causes:\n%s", n, log)
	}
}

// Who reads slowly for longer than the server's write timeout gets it all, as
// long as something moves.
func TestStreamsOutliveTheWriteTimeout(t *testing.T) {
	t.Parallel()
	server, _ := stream(t)
	resp, err := server.Client().Get(server.URL + "/x/" + strings.Repeat("n", 16<<10))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	tick := time.NewTicker(4 * time.Millisecond)
	defer tick.Stop()
	start, n := time.Now(), 0
	for part := make([]byte, 32<<10); err == nil; <-tick.C { // 16 MiB do not fit into the sockets' buffers
		var read int
		read, err = io.ReadFull(resp.Body, part)
		n += read
	}
	if !errors.Is(err, io.EOF) || n != 16<<20 || time.Since(start) < 1500*time.Millisecond {
		t.Errorf("got %d bytes in %v: %v", n, time.Since(start), err)
	}
}
