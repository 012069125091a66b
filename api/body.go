package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"bindery"
)

const (
	// maxText bounds every string that becomes part of a record: ids, names.
	maxText = 255
	// maxDepth bounds how deep arrays and objects nest in a body.
	maxDepth = 100
	// maxKeys bounds the keys of an object that is cut; each is compared with all before it.
	maxKeys = 1000
)

// Object reads the body as one JSON object. Errors: CodeInvalid for another
// content type and for anything that is not one object in UTF-8 (a second value,
// a key that is there twice, more than 100 levels); CodeTooLarge.
// The texts of encoding/json are not passed on: they quote what was sent.
func (c *Call) Object() (Object, error) {
	if err := checkType(c.R.Header.Get("Content-Type")); err != nil {
		return nil, err
	}
	body, err := c.Body()
	if err != nil {
		return nil, err
	}
	return ParseObject(body)
}

func checkType(contentType string) error {
	if contentType == "" || contentType == "application/json" {
		return nil
	}
	t, _, err := mime.ParseMediaType(contentType)
	if err == nil && (t == "application/json" || strings.HasPrefix(t, "application/") && strings.HasSuffix(t, "+json")) {
		return nil
	}
	return bindery.Errorf(bindery.CodeInvalid, "the content type of the body must be application/json")
}

// Body reads the body to its end. Errors: CodeTooLarge; CodeInvalid where it breaks off.
func (c *Call) Body() ([]byte, error) {
	tooLarge := bindery.Errorf(bindery.CodeTooLarge, "the body is larger than %d bytes", c.maxBody)
	if c.R.ContentLength > c.maxBody {
		c.Header().Set("Connection", "close") // rather than read it all to reach the next request
		return nil, tooLarge
	}
	var b bytes.Buffer
	if c.R.ContentLength > 0 {
		b.Grow(int(c.R.ContentLength) + bytes.MinRead)
	}
	_, err := b.ReadFrom(http.MaxBytesReader(c.w, c.R.Body, c.maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	if err != nil {
		return nil, bindery.Errorf(bindery.CodeInvalid, "the body could not be read to its end").Because(err)
	}
	// The body was in time; what comes next on this connection has its own.
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	return b.Bytes(), nil
}

// An Object is a JSON object, cut at its commas. Keys count as they are
// spelled: encoding/json would take SERVICE_ID for service_id, which a caller's
// own extension may be.
type Object []member

type member struct {
	key   string
	value json.RawMessage
}

// ParseObject cuts a JSON object. Errors: CodeInvalid. The values share the body's memory.
func ParseObject(body []byte) (Object, error) {
	trimmed := bytes.TrimLeft(body, " \t\r\n")
	switch {
	case len(trimmed) == 0:
		return nil, bindery.Errorf(bindery.CodeInvalid, "a JSON object is missing")
	case !utf8.Valid(trimmed) || depth(trimmed) > maxDepth || !json.Valid(trimmed):
		return nil, bindery.Errorf(bindery.CodeInvalid, "not valid JSON, or nested more than %d levels deep", maxDepth)
	case trimmed[0] != '{':
		return nil, bindery.Errorf(bindery.CodeInvalid, "not a JSON object")
	}
	o := make(Object, 0, 8)
	s := scanner(trimmed[1:])
	for s.space(); s[0] != '}'; s.space() {
		if s[0] == ',' {
			s = s[1:]
			s.space()
		}
		key, err := s.key()
		if err != nil {
			return nil, err
		}
		if len(o) == maxKeys {
			return nil, bindery.Errorf(bindery.CodeInvalid, "an object has more than %d keys", maxKeys)
		}
		if o.has(key) {
			return nil, bindery.Errorf(bindery.CodeInvalid, "a key is there twice")
		}
		s.space()
		s = s[1:] // the colon
		s.space()
		o = append(o, member{key, json.RawMessage(s.value())})
	}
	return o, nil
}

// A scanner walks over JSON that is known to be valid.
type scanner []byte

func (s *scanner) space() {
	for (*s)[0] == ' ' || (*s)[0] == '\t' || (*s)[0] == '\r' || (*s)[0] == '\n' {
		*s = (*s)[1:]
	}
}

func (s *scanner) key() (string, error) {
	raw := s.value()
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	var key string
	if err := json.Unmarshal(raw, &key); err != nil {
		return "", bindery.Errorf(bindery.CodeInvalid, "not valid JSON").Because(err)
	}
	return key, nil
}

// value takes one whole value off the front.
func (s *scanner) value() []byte {
	b, level, i := *s, 0, 0
	for ; ; i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			level++
			continue
		case '}', ']':
			level--
		default:
			if level > 0 {
				continue
			}
			// A number or a word: it ends before what cannot be part of it.
			for strings.IndexByte(" \t\r\n,}]", b[i]) < 0 {
				i++
			}
			*s = b[i:]
			return b[:i:i]
		}
		if level == 0 {
			*s = b[i+1:]
			return b[: i+1 : i+1]
		}
	}
}

// depth is how deep b nests, seen without recursion; b need not be valid.
func depth(b []byte) int {
	level, deepest := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			level++
			deepest = max(deepest, level)
		case '}', ']':
			level--
		}
	}
	return deepest
}

func (o Object) has(key string) bool {
	for i := range o {
		if o[i].key == key {
			return true
		}
	}
	return false
}

// Raw returns a value as it was sent; nil where it is absent or null.
func (o Object) Raw(key string) json.RawMessage {
	for i := range o {
		if o[i].key == key && string(o[i].value) != "null" {
			return o[i].value
		}
	}
	return nil
}

// Text returns a string that may become part of a record; empty where it is
// absent or null. Errors: CodeInvalid for what is there and fails [CheckText].
func (o Object) Text(key string) (string, error) {
	raw := o.Raw(key)
	if raw == nil {
		return "", nil
	}
	var s string
	if raw[0] != '"' {
		return "", bindery.Errorf(bindery.CodeInvalid, "%s must be a string", key)
	}
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		s = string(inner)
	} else if err := json.Unmarshal(raw, &s); err != nil {
		return "", bindery.Errorf(bindery.CodeInvalid, "%s must be a string", key).Because(err)
	}
	return s, CheckText(key, s)
}

// Need is Text for a key that must be there.
func (o Object) Need(key string) (string, error) {
	s, err := o.Text(key)
	if err == nil && s == "" {
		err = bindery.Errorf(bindery.CodeInvalid, "%s is missing", key)
	}
	return s, err
}

// Bool returns a boolean; false where it is absent or null. Errors: CodeInvalid.
func (o Object) Bool(key string) (bool, error) {
	switch string(o.Raw(key)) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, bindery.Errorf(bindery.CodeInvalid, "%s must be true or false", key)
}

// Inner returns a value that must be an object, as it was sent; nil where it is
// absent or null. Errors: CodeInvalid.
func (o Object) Inner(key string) (json.RawMessage, error) {
	raw := o.Raw(key)
	if raw != nil && raw[0] != '{' {
		return nil, bindery.Errorf(bindery.CodeInvalid, "%s must be an object", key)
	}
	return raw, nil
}

// CheckText checks a string that becomes part of a record: 1 to 255 bytes of
// UTF-8 without control characters. Errors: CodeInvalid, with the name and not the value.
func CheckText(name, s string) error {
	if s == "" || len(s) > maxText {
		return bindery.Errorf(bindery.CodeInvalid, "%s must have 1 to %d bytes", name, maxText)
	}
	ascii := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return bindery.Errorf(bindery.CodeInvalid, "%s must not contain control characters", name)
		}
		ascii = ascii && s[i] < utf8.RuneSelf
	}
	if ascii {
		return nil
	}
	if !utf8.ValidString(s) {
		return bindery.Errorf(bindery.CodeInvalid, "%s must be UTF-8", name)
	}
	for _, r := range s {
		if r >= 0x80 && r < 0xa0 {
			return bindery.Errorf(bindery.CodeInvalid, "%s must not contain control characters", name)
		}
	}
	return nil
}
