package config

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the reference in docs/configuration.md anew")

const (
	document  = "../docs/configuration.md"
	beginMark = "<!-- reference: go test ./config -run Reference -update -->\n"
	endMark   = "<!-- end of the reference -->\n"
)

// The document's tables are the doc tags, so that the two cannot disagree.
func TestReferenceIsUpToDate(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), beginMark)
	old, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks of its reference", document)
	}
	want := reference()
	if *update {
		if err := os.WriteFile(document, []byte(before+beginMark+want+endMark+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != want {
		t.Errorf("%s is out of date: go test ./config -run Reference -update", document)
	}
}

// reference is a table for each mapping of the file.
func reference() string {
	var b strings.Builder
	var tables func(t reflect.Type, path string)
	tables = func(t reflect.Type, path string) {
		type sub struct {
			t    reflect.Type
			path string
		}
		var subs []sub
		if path != "" {
			fmt.Fprintf(&b, "\n### `%s`\n", path)
		}
		b.WriteString("\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n")
		for i := range t.NumField() {
			f := t.Field(i)
			name := f.Tag.Get("yaml")
			if name == "" {
				continue
			}
			def := f.Tag.Get("default")
			if def != "" {
				def = "`" + def + "`"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, value(f.Type), def, strings.ReplaceAll(f.Tag.Get("doc"), "|", `\|`))
			inner, p := f.Type, strings.TrimPrefix(path+"."+name, ".")
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				if inner.Kind() == reflect.Slice {
					p += "[]"
				}
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && inner != reflect.TypeFor[Ref]() && inner != reflect.TypeFor[Object]() {
				subs = append(subs, sub{inner, p})
			}
		}
		for _, s := range subs {
			tables(s.t, s.path)
		}
	}
	tables(reflect.TypeFor[Config](), "")
	b.WriteString("\n")
	return b.String()
}

func value(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return "duration"
	case reflect.TypeFor[Ref]():
		return "secret"
	}
	switch t.Kind() {
	case reflect.Slice:
		return "list of " + plural[value(t.Elem())]
	case reflect.Pointer:
		return value(t.Elem())
	case reflect.Struct:
		return "mapping"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "number"
	default:
		return "text"
	}
}

var plural = map[string]string{"text": "texts", "mapping": "mappings", "secret": "secrets"}
