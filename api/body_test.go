package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"bindery"
	"bindery/api"
)

func TestParseObject(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body string
		ok   bool
	}{
		"empty object":              {`{}`, true},
		"space everywhere":          {" \r\n\t{ \"a\" : [ 1 , { } ] , \"b\" : \"}\" } \n", true},
		"nothing":                   {"", false},
		"only space":                {" \n", false},
		"an array":                  {`[]`, false},
		"null":                      {`null`, false},
		"a string":                  {`"x"`, false},
		"two values":                {`{} {}`, false},
		"text behind":               {`{}x`, false},
		"a comma too many":          {`{"a":1,}`, false},
		"a mark in front":           {"\ufeff{}", false},
		"not UTF-8":                 {"{\"a\":\"\xff\"}", false},
		"a key twice":               {`{"a":1,"a":2}`, false},
		"a key twice, one escaped":  {`{"a":1,"\u0061":2}`, false},
		"keys that differ in case":  {`{"a":1,"A":2}`, true},
		"100 levels":                {`{"a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}`, true},
		"101 levels":                {`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, false},
		"brackets within a string":  {`{"a":"` + strings.Repeat("[", 1000) + `"}`, true},
		"1000 keys":                 {keys(1000), true},
		"100000 keys":               {keys(100_000), false},
		"a million levels, no ends": {strings.Repeat(`{"a":`, 1_000_000), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := api.ParseObject([]byte(tt.body))
			if (err == nil) != tt.ok || err != nil && bindery.CodeOf(err) != bindery.CodeInvalid {
				t.Errorf("got %v", err)
			}
		})
	}
}

func keys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":1`, i)
	}
	return "{" + b.String()[1:] + "}"
}

func TestFieldsOfAnObject(t *testing.T) {
	t.Parallel()
	o, err := api.ParseObject([]byte(`{"text":"a\"b","plain":"c","empty":"","null":null,"number":1e3,"object":{"x":[1,"}"]},
		"yes":true,"no":false,"control":"a\u0000b","long":"` + strings.Repeat("x", 256) + `","TEXT2":"upper"}`))
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"text": `a"b`, "plain": "c", "null": "", "absent": "", "text2": ""} {
		if got, err := o.Text(key); err != nil || got != want {
			t.Errorf("%s: got %q, %v", key, got, err)
		}
	}
	for _, key := range []string{"empty", "number", "object", "yes", "control", "long"} {
		if got, err := o.Text(key); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("%s: got %q, %v", key, got, err)
		}
	}
	for _, key := range []string{"null", "absent", "text2"} {
		if _, err := o.Need(key); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("%s is needed: %v", key, err)
		}
	}
	if got, err := o.Inner("object"); err != nil || string(got) != `{"x":[1,"}"]}` {
		t.Errorf("got %s, %v", got, err)
	}
	if _, err := o.Inner("text"); err == nil {
		t.Error("a string is an object")
	}
	if got := string(o.Raw("number")); got != "1e3" {
		t.Errorf("got %s", got)
	}
	for key, want := range map[string]bool{"yes": true, "no": false, "null": false, "absent": false} {
		if got, err := o.Bool(key); err != nil || got != want {
			t.Errorf("%s: got %v, %v", key, got, err)
		}
	}
	if _, err := o.Bool("text"); err == nil {
		t.Error("a string is a boolean")
	}
}

// decode reads JSON with its numbers as they stand: one may be larger than any float64.
func decode(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(into)
}

// What ParseObject cuts is what encoding/json reads.
func FuzzParseObject(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1}`, ` {"a" : {"b":[1,2,"}"]} , "c":-1.5e3, "d":null,"e":true}`, `{"\u0061":"\\\""}`, `{"a":[[],{}]}`,
		`{"a":"]"`, `{"":0}`, `{"a":[1e999]}`, "{\"a\":\"\x7f\"}", `[`, `{"a":1,"a":1}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := api.ParseObject(body)
		if err != nil {
			if m := bindery.MessageOf(err); strings.Contains(m, "EOF") || strings.Contains(m, "invalid character") {
				t.Errorf("the decoder's own words: %s", m)
			}
			return
		}
		var want map[string]any
		if err := decode(body, &want); err != nil || !utf8.Valid(body) || !json.Valid(body) {
			t.Fatalf("%q is no object: %v", body, err)
		}
		if len(o) != len(want) {
			t.Fatalf("%q: got %d keys, want %d", body, len(o), len(want))
		}
		for key, w := range want {
			raw := o.Raw(key)
			if raw == nil && w == nil {
				continue
			}
			var got any
			if err := decode(raw, &got); err != nil || !reflect.DeepEqual(got, w) {
				t.Errorf("%q: %q is %s (%v)", body, key, raw, err)
			}
			s, err := o.Text(key)
			if text, ok := w.(string); err == nil && (!ok || s != text) {
				t.Errorf("%q: %q reads %q", body, key, s)
			}
		}
	})
}
