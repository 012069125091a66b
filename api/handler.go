package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"bindery"
)

// The headers by which a caller names its request.
const (
	headerRequestIdentity = "X-Broker-Api-Request-Identity"
	headerRequestID       = "X-Request-Id"
)

// Limits of one call.
const (
	DefaultMaxBody = 1 << 20
	bodyTimeout    = 30 * time.Second
	maxRequestID   = 255
)

// A Face is one set of routes: everything below one first path segment.
type Face struct {
	Name    string // for logs and metrics: "osb", "admin"
	Segment string // without slashes: "v2"
	// Serve answers the call, or returns the error that Fail renders.
	Serve func(*Call) error
	// Fail renders an error; nil: [Fail].
	Fail func(*Call, error)
}

// A Handler serves the faces of one listener.
type Handler struct {
	Faces []Face
	Log   *slog.Logger
	Now   func() time.Time
	// MaxBody bounds a request's body in bytes; 0: DefaultMaxBody.
	MaxBody int64
	// Observe, where set, sees every call when it is over, before its line is logged.
	Observe func(*Call)
}

// What every answer carries; nobody writes into the values of a header.
var (
	noSniff = []string{"nosniff"}
	noStore = []string{"no-store"}
)

// ServeHTTP answers one request: always in JSON, always with the headers that
// every answer carries, whatever happens on the way.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &Call{R: r, w: w, Started: h.Now(), Method: method(r.Method), maxBody: cmp.Or(h.MaxBody, DefaultMaxBody)}
	header := w.Header()
	header["X-Content-Type-Options"] = noSniff
	header["Cache-Control"] = noStore
	c.identify()
	if r.Body != nil && r.Body != http.NoBody {
		// Not the server's ReadTimeout, which would go on counting while the work is
		// waited for. It holds for bodies that nobody reads as well: the server
		// empties them before the connection's next request.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}

	face := h.face(r)
	c.Face = face.Name
	defer h.finish(c, face)
	if err := face.Serve(c); err != nil {
		face.Fail(c, err)
	}
}

// finish turns a panic into an answer, and writes the call's one line.
func (h *Handler) finish(c *Call, face Face) {
	p := recover()
	aborted := p == http.ErrAbortHandler //nolint:errorlint // net/http compares it like this
	if p != nil && !aborted {
		err := fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		if c.wrote {
			c.Failed(err)
			aborted = true
		} else {
			face.Fail(c, err)
		}
	}
	if !c.wrote && !aborted {
		face.Fail(c, errors.New("a route that answered nothing"))
	}
	if h.Observe != nil {
		h.Observe(c)
	}
	h.log(c)
	if aborted {
		panic(http.ErrAbortHandler) // half an answer must not look whole
	}
}

func (h *Handler) log(c *Call) {
	level := slog.LevelInfo
	switch {
	case c.Face == faceHealth:
		level = slog.LevelDebug
	case errors.Is(c.Cause, context.Canceled) && c.R.Context().Err() != nil:
		// The caller hung up while we were reading for it: nobody's fault here.
	case c.broken, c.Status >= http.StatusInternalServerError:
		level = slog.LevelError
	}
	ctx := context.WithoutCancel(c.R.Context())
	if !h.Log.Enabled(ctx, level) {
		return
	}
	now := h.Now()
	attrs := [11]slog.Attr{
		slog.String("method", c.Method),
		slog.String("route", cmp.Or(c.Route, "none")),
		slog.Int("status", c.Status),
		slog.Int("bytes", c.Bytes),
		slog.Int64("duration_us", now.Sub(c.Started).Microseconds()),
		slog.String("request_id", c.RequestID),
		slog.String("remote", c.R.RemoteAddr),
	}
	n := 7
	if c.Platform != "" {
		attrs[n] = slog.String("platform", c.Platform)
		n++
	}
	if c.Caller != "" {
		attrs[n] = slog.String("caller", c.Caller)
		n++
	}
	if c.Code != "" {
		attrs[n] = slog.String("code", string(c.Code))
		n++
	}
	// Below 500 the caller was told what was wrong; a cause might repeat what it sent.
	if c.Cause != nil && (c.broken || c.Status >= http.StatusInternalServerError) {
		attrs[n] = slog.String("cause", c.Cause.Error())
		n++
	}
	// Without the logger's look at who calls it: it is always this line.
	r := slog.NewRecord(now, level, "request", 0)
	r.AddAttrs(attrs[:n]...)
	_ = h.Log.Handler().Handle(ctx, r) // as a logger does
}

func (h *Handler) face(r *http.Request) Face {
	segment, _, _ := strings.Cut(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
	if s, ok := unescape(segment); ok {
		for _, f := range h.Faces {
			if f.Segment == s {
				if f.Fail == nil {
					f.Fail = Fail
				}
				return f
			}
		}
	}
	return Face{Serve: func(*Call) error { return errNoRoute }, Fail: Fail}
}

var errNoRoute = bindery.Errorf(bindery.CodeNotFound, "there is nothing at this path")

// identify finds the request's id, or makes one, and puts it into the answer
// under the name that the caller used. An id that is not plain, short text
// is not repeated anywhere.
func (c *Call) identify() {
	for _, name := range [...]string{headerRequestIdentity, headerRequestID} {
		if v := c.R.Header[name]; len(v) > 0 && plain(v[0]) {
			c.RequestID = v[0]
			c.w.Header()[name] = v[:1:1]
			return
		}
	}
	c.RequestID = newRequestID()
	c.w.Header()[headerRequestID] = []string{c.RequestID}
}

func plain(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Request ids are a random name of this process and a count: unique, cheap, and
// two of one process are seen to be neighbours.
var (
	processName  = randomName()
	requestCount atomic.Uint64
)

func randomName() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

func newRequestID() string {
	return processName + "-" + strconv.FormatUint(requestCount.Add(1), 36)
}

func method(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodPost, http.MethodOptions:
		return m
	}
	return "OTHER"
}

// NewServer is an http.Server with every limit set: slow headers, idle
// connections, and answers that nobody fetches end. Bodies have a limit of time of their own
// in [Handler]. The write timeout leaves room for a call that waits 58 seconds.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      100 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		// OPTIONS * gets our answer and not an empty one of net/http.
		DisableGeneralOptionsHandler: true,
	}
}
