package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decode reads one strict YAML document into cfg. lines says on which line the
// thing at a path stands.
func decode(data []byte, cfg *Config) (lines map[string]int, problems []Problem) {
	lines = map[string]int{}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return lines, yamlProblems(err)
	}
	if root.Kind == 0 {
		return lines, []Problem{{Text: "the file is empty"}}
	}
	index(root.Content[0], "", lines)
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(cfg); err != nil {
		problems = yamlProblems(err)
	}
	if err := d.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		problems = append(problems, Problem{Text: "the file has more than one document"})
	}
	return lines, append(problems, nulls(root.Content[0])...)
}

// index notes the lines of mappings and sequences. It does not follow aliases,
// so that its cost is that of the file.
func index(n *yaml.Node, path string, lines map[string]int) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			p := n.Content[i].Value
			if path != "" {
				p = path + "." + p
			}
			lines[p] = n.Content[i].Line
			index(n.Content[i+1], p, lines)
		}
	case yaml.SequenceNode:
		for i, e := range n.Content {
			p := path + "[" + strconv.Itoa(i) + "]"
			lines[p] = e.Line
			index(e, p, lines)
		}
	default:
	}
}

// nulls refuses "tls:" with nothing behind it, which would silently mean no TLS.
func nulls(n *yaml.Node) (problems []Problem) {
	for i, e := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "tls" && e.ShortTag() == "!!null" {
			problems = append(problems, Problem{Line: n.Content[i-1].Line, Text: "tls: is empty: write {} or leave it out"})
		}
		problems = append(problems, nulls(e)...)
	}
	return problems
}

var (
	atLine     = regexp.MustCompile(`^(?:yaml: )?line (\d+): (?s:(.*))$`)
	unknownKey = regexp.MustCompile(`^field (?s:(.*)) not found in type \S+$`)
	twice      = regexp.MustCompile(`^field (?s:(.*)) already set in type \S+$`)
	wrongType  = regexp.MustCompile(`^cannot unmarshal (!!\w+)(?s:.*) into (\S+)$`)
)

// yamlProblems rewrites the library's texts: they name Go types, and show the
// beginning of values, one of which may be a secret in the wrong place.
func yamlProblems(err error) []Problem {
	texts := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
	if t, ok := errors.AsType[*yaml.TypeError](err); ok {
		texts = t.Errors
	}
	problems := make([]Problem, 0, len(texts))
	for _, text := range texts {
		p := Problem{Text: text}
		if m := atLine.FindStringSubmatch(text); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			p.Text = m[2]
		}
		if m := unknownKey.FindStringSubmatch(p.Text); m != nil {
			p.Text = fmt.Sprintf("unknown key %.63q", m[1])
		} else if m := twice.FindStringSubmatch(p.Text); m != nil {
			p.Text = fmt.Sprintf("key %.63q is given twice", m[1])
		} else if m := wrongType.FindStringSubmatch(p.Text); m != nil {
			p.Text = "must be " + wanted(m[2]) + ", not " + given(m[1])
		}
		problems = append(problems, p)
	}
	return problems
}

func wanted(goType string) string {
	switch t := strings.TrimPrefix(goType, "*"); {
	case t == "config.Ref":
		return "{file: PATH} or {env: NAME}, because secrets are never written here"
	case t == "time.Duration":
		return "a duration with a unit (30s, 5m, 24h)"
	case t == "bool":
		return "true or false"
	case strings.HasPrefix(t, "int"):
		return "a whole number"
	case t == "string":
		return "text"
	case strings.HasPrefix(t, "[]"):
		return "a list"
	default:
		return "a mapping"
	}
}

func given(tag string) string {
	switch tag {
	case "!!map":
		return "a mapping"
	case "!!seq":
		return "a list"
	case "!!str":
		return "text"
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	default:
		return "this"
	}
}

// Object is a free mapping, kept as JSON.
type Object struct{ raw json.RawMessage }

// Raw returns the JSON object, or nil where the key was left out.
func (o Object) Raw() json.RawMessage { return o.raw }

// UnmarshalYAML implements [yaml.Unmarshaler].
func (o *Object) UnmarshalYAML(n *yaml.Node) error {
	var v any
	if err := n.Decode(&v); err != nil {
		return err
	}
	v, err := plain(v)
	if err == nil {
		if _, ok := v.(map[string]any); !ok {
			err = errors.New("must be a mapping")
		}
	}
	if err == nil {
		o.raw, err = json.Marshal(v)
	}
	if err != nil {
		return &yaml.TypeError{Errors: []string{fmt.Sprintf("line %d: %v", n.Line, err)}}
	}
	return nil
}

// plain makes of a YAML value one that JSON has.
func plain(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case map[any]any:
		return nil, errors.New("keys must be text (quote those that look like numbers)")
	case map[string]any:
		for k, e := range v {
			if v[k], err = plain(e); err != nil {
				return nil, err
			}
		}
	case []any:
		for i, e := range v {
			if v[i], err = plain(e); err != nil {
				return nil, err
			}
		}
	case time.Time:
		return v.Format(time.RFC3339Nano), nil
	}
	return v, nil
}
