package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"bindery"
)

// A Call is one HTTP request from its first header to its line in the log: made
// at the start, filled in on the way, written once at the end. What it exports
// is fit for logs and metrics.
type Call struct {
	R         *http.Request
	RequestID string
	Started   time.Time

	Face     string // of [Face]
	Method   string // one of HTTP's own, else "OTHER"
	Route    string // the pattern; empty where none matched
	Platform string // who asked, once proven: a platform of the service broker face,
	Caller   string // or the name of a key or an identity
	Status   int    // of the answer
	Bytes    int    // of its body
	Code     bindery.Code
	Cause    error // what the operator should know of a failure

	w       http.ResponseWriter
	maxBody int64
	params  [maxParams]param
	nparams int
	wrote   bool
	broken  bool // by us, after the answer had begun
}

const maxParams = 2

type param struct{ name, value string }

// Param returns the decoded path segment that the route's pattern calls name.
func (c *Call) Param(name string) string {
	for _, p := range c.params[:c.nparams] {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// Header is the answer's header.
func (c *Call) Header() http.Header { return c.w.Header() }

// Failed notes for the log how the call ended; the answer is the face's.
func (c *Call) Failed(err error) {
	c.Code, c.Cause = bindery.CodeOf(err), err
	if r, ok := errors.AsType[*Refusal](err); ok {
		c.Code = bindery.CodeInvalid
		if r.Status >= http.StatusInternalServerError {
			c.Code = bindery.CodeInternal
		}
	}
}

// Patience moves the moment by which the answer must be written, for the few
// calls that take longer than the server's write timeout.
func (c *Call) Patience(until time.Time) {
	// A writer that knows no deadlines has none to move.
	_ = http.NewResponseController(c.w).SetWriteDeadline(until)
}

// Bodies are encoded into buffers that are used again; large ones are let go.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const keepBuffer = 64 << 10

// JSON answers with v. What cannot be encoded is a 500, and noted for the log.
func (c *Call) JSON(status int, v any) {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	defer func() {
		if b.Cap() <= keepBuffer {
			clear(b.Bytes()) // credentials pass through here
			buffers.Put(b)
		}
	}()
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false) // people copy URIs out of credentials
	if err := enc.Encode(v); err != nil {
		b.Reset()
		err = bindery.Errorf(bindery.CodeInternal, "encode the answer").Because(err)
		c.Failed(err)
		status = http.StatusInternalServerError
		// Three strings encode without fail.
		_ = enc.Encode(envelope{Error: string(bindery.CodeInternal), Description: c.Describe(err)})
	}
	c.Raw(status, "application/json", b.Bytes())
}

// Raw answers with a body that is already encoded; none where contentType is empty.
func (c *Call) Raw(status int, contentType string, body []byte) {
	if c.wrote {
		return
	}
	c.wrote, c.Status = true, status
	h := c.w.Header()
	if contentType != "" {
		h["Content-Type"] = []string{contentType}
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	c.w.WriteHeader(status)
	if contentType == "" || c.R.Method == http.MethodHead {
		return
	}
	// Who went away does not get an answer; there is nobody left to tell.
	c.Bytes, _ = c.w.Write(body)
}
