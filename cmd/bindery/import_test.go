package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func writeExport(t testing.TB, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bindings.json")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// readAll reads a file to its end: the documents, their lines, and what stopped it.
func readAll(t testing.TB, path string) (docs []json.RawMessage, lines []int, err error) {
	t.Helper()
	d, err := openDocuments(path, "bindings.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	for {
		raw, line, err := d.next()
		if err != nil {
			return docs, lines, err
		}
		docs, lines = append(docs, raw), append(lines, line)
	}
}

func TestDocumentsKnowTheirLines(t *testing.T) {
	t.Parallel()
	filler := `{"x":"` + strings.Repeat("a", 5000) + `"}` // more than one read
	tests := map[string]struct {
		content string
		lines   []int
	}{
		"nothing":                    {"", nil},
		"white space":                {"\n \n", nil},
		"an empty array":             {" [ ] \n", nil},
		"one a line":                 {"{}\n{}\n{}\n", []int{1, 2, 3}},
		"without the last line end":  {"{}\n{}", []int{1, 2}},
		"empty lines between":        {"\n{}\n\n\n{}\n", []int{2, 5}},
		"two on a line":              {"{} {}\n{}", []int{1, 1, 2}},
		"documents of several lines": {"{\n\n}\n{\n\"a\":1}\n{}", []int{1, 4, 6}},
		"an array, one a line":       {"[{},\n{},\n{}]\n", []int{1, 2, 3}},
		"an array, commas in front":  {"[\n{}\n,{}\n, {}\n]", []int{2, 3, 4}},
		"long ones":                  {filler + "\n" + filler + "\r\n\n" + filler, []int{1, 2, 4}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docs, lines, err := readAll(t, writeExport(t, []byte(test.content)))
			if !errors.Is(err, io.EOF) || len(docs) != len(test.lines) {
				t.Fatalf("%d documents, then %v", len(docs), err)
			}
			for i, want := range test.lines {
				if lines[i] != want {
					t.Errorf("document %d is on line %d, want %d", i, lines[i], want)
				}
			}
		})
	}
}

func TestExtendedJSON(t *testing.T) {
	t.Parallel()
	d, err := newDocument([]byte(`{
		"port": 8443, "int": {"$numberInt": "8443"}, "long": {"$numberLong": "8443"}, "double": {"$numberDouble": "8443.0"}, "relaxed": 8443.0,
		"half": 1.5, "text": "8443x", "huge": 1e300, "nan": {"$numberDouble": "NaN"},
		"old": "2018-05-24T09:58:17Z", "date": {"$date": "2018-05-24T09:58:17Z"}, "zone": {"$date": "2018-05-24T11:58:17.000+02:00"},
		"ms": {"$date": {"$numberLong": "1527155897000"}}, "plain": {"$date": 1527155897000}, "never": "", "null": null, "undefined": {"$undefined": true},
		"epoch": {"$date": 0}, "1970": "1970-01-01T01:00:00+01:00",
		"late": {"$date": {"$numberLong": "9223372036854775807"}}, "10000": {"$date": 253402300800000}, "early": {"$date": {"$numberLong": "-9223372036854775808"}}
	}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range []string{"port", "int", "long", "double", "relaxed"} {
		if n, err := d.number(field); n != 8443 || err != nil {
			t.Errorf("%s is %d, %v", field, n, err)
		}
	}
	for _, field := range []string{"half", "text", "huge", "nan", "old"} {
		if n, err := d.number(field); err == nil {
			t.Errorf("%s is %d", field, n)
		}
	}
	want := time.Date(2018, 5, 24, 9, 58, 17, 0, time.UTC)
	for _, field := range []string{"old", "date", "zone", "ms", "plain"} {
		if at, err := d.time(field); !at.Equal(want) || err != nil {
			t.Errorf("%s is %s, %v", field, at, err)
		}
	}
	for _, field := range []string{"never", "null", "undefined", "missing", "epoch", "1970"} {
		if at, err := d.time(field); !at.IsZero() || err != nil {
			t.Errorf("%s is %s, %v", field, at, err)
		}
	}
	for _, field := range []string{"text", "late", "10000", "early"} {
		if at, err := d.time(field); err == nil || !at.IsZero() {
			t.Errorf("%s is %s, %v", field, at, err)
		}
	}
	if s, err := d.text("date"); err == nil {
		t.Errorf("a date is the text %q", s)
	}
}

// What occurs how often is counted exactly, however much occurs once.
func TestRepeatsAreCounted(t *testing.T) {
	t.Parallel()
	r := newRepeats() // one for all: keys of different rounds differ
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		times := map[repeatKey]int{}
		var keys []repeatKey
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 50), 0, 200).Draw(t, "keys") {
			k := keyOf(strconv.Itoa(round), strconv.Itoa(n))
			times[k]++
			keys = append(keys, k)
		}
		for _, k := range keys {
			if err := r.see(k); err != nil {
				t.Fatal(err)
			}
		}
		for _, k := range keys {
			r.count(k)
		}
		for k, n := range times {
			if got := r.of(k); got != n {
				t.Fatalf("counted %d, want %d", got, n)
			}
		}
	})
	if keyOf("a", "bc") == keyOf("ab", "c") {
		t.Error("two tuples have one key")
	}
}

// Whatever a file holds, reading it ends, and a record is read or has a reason
// that quotes nothing.
func FuzzImport(f *testing.F) {
	f.Add([]byte(`{"name":"b","uuid":"u","auth_type":"x509","auth_identifier":"E=a@x,CN=b","uniquekey":"k","created_on":{"$date":1}}` + "\n{}"))
	f.Add([]byte(`[{"type":"api-key","port":{"$numberInt":"1"},"access_key":"s"},{"type":"headers","headers":{"a":"b"}}]`))
	f.Add([]byte(`{"hosts":["h"],"auth_types":["x509"]}` + "\n[1]\nnull\n\"x\"\n{"))
	f.Fuzz(func(t *testing.T, content []byte) {
		docs, lines, err := readAll(t, writeExport(t, content))
		if err == nil {
			t.Fatal("it did not end")
		}
		last := 1
		for i, raw := range docs {
			if !json.Valid(raw) || !bytes.Contains(content, raw) || lines[i] < last {
				t.Fatalf("document %d on line %d is %q", i, lines[i], raw)
			}
			last = lines[i]
			d, err := newDocument(raw)
			if err != nil {
				continue
			}
			for _, c := range collections {
				r, err := c.read(d)
				if err == nil && (r.take == nil || r.label == "" || len(r.keys()) == 0) {
					t.Fatalf("%s: nothing can be done with %+v", c.name, r)
				}
			}
		}
	})
}
