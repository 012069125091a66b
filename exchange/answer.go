package exchange

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"unicode/utf8"

	"bindery"
)

// What callers hear of a service. Nothing from inside is in it: no address, no
// key, not what the service said.
var (
	errUnreachable = bindery.Errorf(bindery.CodeUpstream, "The service cannot be reached")
	errBusy        = bindery.Errorf(bindery.CodeUpstream, "The service is busy")
	errRefused     = bindery.Errorf(bindery.CodeUpstream, "The service refused the request")
	errGarbage     = bindery.Errorf(bindery.CodeUpstream, "The service gave an answer that has no token")
	errLate        = bindery.Errorf(bindery.CodeTimeout, "The service did not answer in time")

	errNoType  = errors.New("the type of the service type is not configured")
	errCrashed = errUnreachable.Because(errors.New("the call panicked"))
)

// ask makes the call. answered: there was an answer, good or bad, but for one that is
// too long: to find that out takes so much that the host must not be asked for it
// again and again. Redirects are answers: following one would send the headers elsewhere.
func (r *retrieval) ask(q *http.Request) (value json.RawMessage, answered bool, err error) {
	a, err := r.http.RoundTrip(q)
	if err != nil {
		return nil, false, failure(q.Context(), err)
	}
	defer func() { _ = a.Body.Close() }() // what matters was read
	if a.StatusCode != http.StatusOK {
		// A short answer is read so that the connection can be used again. What
		// follows a 101 is none: it is the bare connection, where no deadline holds.
		if a.StatusCode != http.StatusSwitchingProtocols {
			_, _ = io.CopyN(io.Discard, a.Body, 4<<10)
		}
		return nil, true, errRefused.Because(fmt.Errorf("status %d", a.StatusCode))
	}
	if a.ContentLength > r.max {
		return nil, false, errGarbage.Because(errTooLong)
	}
	b := buffers.Get().(*bytes.Buffer)
	defer release(b)
	if _, err := b.ReadFrom(io.LimitReader(a.Body, r.max+1)); err != nil {
		return nil, false, failure(q.Context(), err)
	}
	if int64(b.Len()) > r.max {
		return nil, false, errGarbage.Because(errTooLong) // closing what was not read ends the connection
	}
	value, err = fieldOf(b.Bytes(), r.Field)
	return value, true, err
}

var errTooLong = errors.New("it is longer than allowed")

// buffers hold answers while they are read.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func release(b *bytes.Buffer) {
	if b.Cap() > 64<<10 {
		return // one long answer must not be remembered by size
	}
	clear(b.Bytes()) // it held a token
	b.Reset()
	buffers.Put(b)
}

// fieldOf takes one field out of a JSON object, as it stands but for white space.
// An answer is mostly what nobody asked for: it is checked by encoding/json, and then
// only what was asked for is taken out of it.
func fieldOf(object []byte, field string) (json.RawMessage, error) {
	if !json.Valid(object) {
		return nil, errGarbage.Because(errors.New("it is no JSON"))
	}
	value := member(object, field)
	if value == nil || !utf8.Valid(value) {
		return nil, errGarbage.Because(fmt.Errorf("%w %q", errNoField, field))
	}
	if value[0] != '{' && value[0] != '[' {
		return bytes.Clone(value), nil
	}
	if _, depth := extent(value); depth > maxNesting {
		return nil, errGarbage.Because(errTooDeep)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, value); err != nil {
		return nil, errGarbage
	}
	return b.Bytes(), nil
}

// maxNesting bounds how deep a token goes. The face indents it, a space for each
// level before each value: without this, 20 KB from a service would be 100 MB to the caller.
const maxNesting = 32

var (
	errTooDeep = errors.New("its token is nested deeper than allowed")
	errNoField = errors.New("it is no object with a field")
)

// member is the value that valid JSON has under a name, a part of it; nil where it is
// no object or has no such name. Of several the last counts, as encoding/json has it.
func member(valid []byte, name string) (value []byte) {
	const space = " \t\r\n"
	rest := bytes.TrimLeft(valid, space)
	if rest[0] != '{' {
		return nil
	}
	for rest = bytes.TrimLeft(rest[1:], space); rest[0] != '}'; rest = bytes.TrimLeft(rest, space+",") {
		n, _ := extent(rest)
		key := rest[:n]
		rest = bytes.TrimLeft(rest[n:], space+":")
		n, _ = extent(rest)
		if spells(key, name) {
			value = rest[:n]
		}
		rest = rest[n:]
	}
	return value
}

// spells reports whether a JSON string is this name.
func spells(quoted []byte, name string) bool {
	if inside := quoted[1 : len(quoted)-1]; bytes.IndexByte(inside, '\\') < 0 {
		return string(inside) == name
	}
	var text string
	return json.Unmarshal(quoted, &text) == nil && text == name
}

// extent is how long the value is with which valid JSON begins, and how deep its
// arrays and objects go.
func extent(valid []byte) (length, deepest int) {
	depth, text := 0, false
	for i := 0; i < len(valid); i++ {
		switch b := valid[i]; {
		case b == '\\': // only in a text
			i++
		case b == '"':
			if text = !text; !text && depth == 0 {
				return i + 1, 0
			}
		case text:
		case b == '[' || b == '{':
			depth++
			deepest = max(deepest, depth)
		case depth > 0 && (b == ']' || b == '}'):
			if depth--; depth == 0 {
				return i + 1, deepest
			}
		case depth == 0 && (b <= ' ' || b == ',' || b == ']' || b == '}'): // after a number or a word
			return i, 0
		}
	}
	return len(valid), deepest
}

// failure is why there was no answer. The transport's errors may quote the URL,
// in which the access key stands, or what the service sent: only those of known
// kinds, which do not, are for the log.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return errLate.Because(context.DeadlineExceeded)
	}
	answer := errUnreachable
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		answer = errLate
	}
	return answer.Because(safe(err))
}

func safe(err error) error {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return e
	}
	if e, ok := errors.AsType[tls.AlertError](err); ok {
		return e
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return e
	}
	for _, known := range []error{io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(err, known) {
			return known
		}
	}
	return errors.New("its answer is not HTTP as it should be")
}
