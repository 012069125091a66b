package api

import (
	"bytes"
	"errors"
	"net/http"
	"time"
)

const (
	// streamBuffer is how much of an answer is written at a time.
	streamBuffer = 32 << 10
	// streamPatience is how long each such part may take to be fetched. The whole
	// may take longer than the server's write timeout, as long as it moves.
	streamPatience = 30 * time.Second
)

// A Stream is an answer that is written as it is made, in constant memory. One
// that fits into its buffer is sent whole, with its length, at the end.
type Stream struct {
	c           *Call
	contentType string
	b           *bytes.Buffer
	sent        bool  // the header and the first part
	gone        error // why nothing more can be sent
}

// Stream begins a 200 answer. [Stream.Close] or [Stream.Fail] must end it.
func (c *Call) Stream(contentType string) *Stream {
	b := buffers.Get().(*bytes.Buffer)
	b.Reset()
	return &Stream{c: c, contentType: contentType, b: b}
}

var errHead = errors.New("the answer to HEAD ends with its header")

// Write adds to the answer. An error means that no more of it is wanted: the
// caller went away, or asked for the header only.
func (s *Stream) Write(p []byte) (int, error) {
	if s.gone != nil {
		return 0, s.gone
	}
	s.b.Write(p) // never fails
	if s.b.Len() >= streamBuffer {
		s.send()
	}
	return len(p), s.gone
}

func (s *Stream) send() {
	c := s.c
	if !s.sent {
		s.sent, c.wrote, c.Status = true, true, http.StatusOK
		c.w.Header()["Content-Type"] = []string{s.contentType}
		c.w.WriteHeader(http.StatusOK)
	}
	if c.R.Method == http.MethodHead {
		s.gone = errHead
	} else {
		c.Patience(time.Now().Add(streamPatience))
		n, err := c.w.Write(s.b.Bytes())
		c.Bytes += n
		if err == nil {
			err = http.NewResponseController(c.w).Flush()
		}
		s.gone = err
	}
	s.wipe()
}

// wipe empties the buffer: credentials pass through here.
func (s *Stream) wipe() {
	clear(s.b.Bytes())
	s.b.Reset()
}

func (s *Stream) release() {
	s.wipe()
	if s.b.Cap() <= keepBuffer {
		buffers.Put(s.b)
	}
}

// Close ends an answer that is whole.
func (s *Stream) Close() {
	defer s.release()
	switch {
	case !s.sent:
		s.c.Raw(http.StatusOK, s.contentType, s.b.Bytes())
	case s.gone == nil && s.b.Len() > 0:
		s.send()
	}
}

// Fail ends an answer that cannot be made whole: it returns the error where
// nothing was sent, and otherwise breaks the connection off, so that
// half an answer does not look like a whole one.
func (s *Stream) Fail(err error) error {
	defer s.release()
	if !s.sent {
		return err
	}
	s.c.Failed(err)
	s.c.broken = true
	panic(http.ErrAbortHandler)
}
