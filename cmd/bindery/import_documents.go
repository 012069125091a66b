package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"bindery/client"
)

const (
	// maxDocument bounds one document: MongoDB's own bound is 16 MiB, and what is
	// imported here is far below.
	maxDocument = 1 << 20
	// maxExport bounds one file.
	maxExport = 64 << 30
)

// documents reads what mongoexport wrote: documents one after the other, or
// one array of them. No more than one is in memory.
type documents struct {
	file  *os.File
	name  string
	size  int64
	dec   *json.Decoder
	array bool
	begun bool

	read, limit int64   // bytes: so far, and at most for the document at hand
	newlines    []int64 // of what was read and is not yet passed
	line        int     // those that are passed
}

// openDocuments opens a file, and looks whether it begins with an array.
func openDocuments(path, name string) (_ *documents, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	d := &documents{file: f, name: name}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file, and is read more than once", name)
	case info.Size() > maxExport:
		return nil, fmt.Errorf("%s is larger than %d GiB", name, maxExport>>30)
	}
	d.size = info.Size()
	_, first, err := d.skipSpace(0)
	d.array = first == '['
	d.dec = json.NewDecoder(d)
	return d, err
}

// skipSpace finds the first byte from an offset on that is no white space and no
// comma; 0 at the end of the file.
func (d *documents) skipSpace(at int64) (int64, byte, error) {
	var buf [512]byte
	for {
		n, err := d.file.ReadAt(buf[:], at)
		for _, b := range buf[:n] {
			if !bytes.ContainsRune([]byte(" \t\r\n,"), rune(b)) {
				return at, b, nil
			}
			at++
		}
		if errors.Is(err, io.EOF) {
			return at, 0, nil
		}
		if err != nil {
			return at, 0, err
		}
	}
}

var errTooLong = fmt.Errorf("is longer than %d KiB", maxDocument>>10)

// Read implements [io.Reader] for the decoder, which asks for more only where a
// document is not whole yet.
func (d *documents) Read(p []byte) (int, error) {
	if d.read >= d.limit {
		return 0, errTooLong
	}
	n, err := d.file.Read(p)
	for i, b := range p[:n] {
		if b == '\n' {
			d.newlines = append(d.newlines, d.read+int64(i))
		}
	}
	d.read += int64(n)
	return n, err
}

// next returns the next document and the line that it begins in; io.EOF after the last.
func (d *documents) next() (raw json.RawMessage, line int, err error) {
	d.limit = d.dec.InputOffset() + maxDocument
	if d.array && !d.begun {
		d.begun = true
		if _, err := d.dec.Token(); err != nil {
			return nil, 0, d.broken(err)
		}
	}
	if d.array && !d.dec.More() {
		return nil, 0, d.end()
	}
	if err = d.dec.Decode(&raw); errors.Is(err, io.EOF) && !d.array {
		return nil, 0, io.EOF
	}
	if err != nil {
		return nil, 0, d.broken(err)
	}
	return raw, d.lineOf(d.dec.InputOffset() - int64(len(raw))), nil
}

// end makes sure that an array ends, and the file with it.
func (d *documents) end() error {
	if _, err := d.dec.Token(); err != nil {
		return d.broken(err)
	}
	if _, err := d.dec.Token(); !errors.Is(err, io.EOF) {
		return d.broken(errors.New("something follows the array"))
	}
	return io.EOF
}

// lineOf counts lines up to an offset, which only grows.
func (d *documents) lineOf(offset int64) int {
	i := 0
	for i < len(d.newlines) && d.newlines[i] < offset {
		i++
	}
	d.line += i
	d.newlines = append(d.newlines[:0], d.newlines[i:]...)
	return d.line + 1
}

// broken says where a file stops making sense. It quotes nothing: that might be a secret.
func (d *documents) broken(err error) error {
	at, _, readErr := d.skipSpace(d.dec.InputOffset())
	if readErr != nil {
		return fmt.Errorf("%s: %w", d.name, readErr)
	}
	why := "what begins there is not JSON"
	switch {
	case errors.Is(err, errTooLong):
		why = "the document that begins there " + errTooLong.Error()
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		why = "the file ends in the middle of what begins there"
	case !isSyntax(err):
		why = err.Error()
	}
	return fmt.Errorf("%s, line %d, byte %d: %s", d.name, d.lineOf(at), at, why)
}

func isSyntax(err error) bool {
	_, ok := errors.AsType[*json.SyntaxError](err)
	return ok
}

func (d *documents) close() error { return d.file.Close() }

// A document is one of MongoDB's, by its fields.
type document map[string]json.RawMessage

// newDocument reads one. Its errors quote nothing.
func newDocument(raw json.RawMessage) (document, error) {
	var d document
	if !utf8.Valid(raw) {
		return nil, errors.New("it is not UTF-8")
	}
	if json.Unmarshal(raw, &d) != nil || d == nil {
		return nil, errors.New("it is no object")
	}
	return d, nil
}

// value is what stands in a field, without the wrapping of MongoDB's extended
// JSON: {"$numberInt": "8443"} is "8443". nil: there is nothing.
func (d document) value(field string, wrappings ...string) json.RawMessage {
	raw := d[field]
	for _, name := range append(wrappings, "$undefined") {
		var wrapped document
		if json.Unmarshal(raw, &wrapped) == nil && len(wrapped) == 1 && wrapped[name] != nil {
			if name == "$undefined" {
				return nil
			}
			raw = wrapped[name]
		}
	}
	if string(raw) == "null" {
		return nil
	}
	return raw
}

func (d document) text(field string) (s string, err error) {
	if raw := d.value(field, "$symbol"); raw != nil && json.Unmarshal(raw, &s) != nil {
		return "", fmt.Errorf("its %s is no text", field)
	}
	return s, nil
}

func (d document) texts(field string) (list []string, err error) {
	if raw := d.value(field); raw != nil && json.Unmarshal(raw, &list) != nil {
		return nil, fmt.Errorf("its %s is no list of texts", field)
	}
	return list, nil
}

func (d document) object(field string) (object map[string]string, err error) {
	if raw := d.value(field); raw != nil && json.Unmarshal(raw, &object) != nil {
		return nil, fmt.Errorf("its %s is no object of texts", field)
	}
	return object, nil
}

// number reads a whole number in any of the ways in which mongoexport writes one.
func (d document) number(field string) (int, error) {
	raw := d.value(field, "$numberInt", "$numberLong", "$numberDouble")
	if raw == nil {
		return 0, nil
	}
	f, err := strconv.ParseFloat(client.Text(raw), 64)
	if err != nil || f != float64(int32(f)) {
		return 0, fmt.Errorf("its %s is no whole number", field)
	}
	return int(f), nil
}

// time reads a time as the old service wrote them, 2018-05-24T09:58:17Z, or as a
// date of MongoDB, which is a text or milliseconds. Zero: there is none.
func (d document) time(field string) (t time.Time, err error) {
	raw := d.value(field, "$date", "$numberLong")
	if raw == nil || string(raw) == `""` {
		return t, nil
	}
	text := client.Text(raw)
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		t = time.UnixMilli(ms)
	} else if t, err = time.Parse(time.RFC3339, text); err != nil {
		return time.Time{}, fmt.Errorf("its %s is no time", field)
	}
	switch t = t.UTC(); {
	case t.Year() < 1 || t.Year() > 9999:
		return time.Time{}, fmt.Errorf("its %s is no time that can be written", field)
	case t.UnixMicro() == 0: // what programs write for none, the store among them
		return time.Time{}, nil
	}
	return t, nil
}
