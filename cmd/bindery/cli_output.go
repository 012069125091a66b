package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"bindery"
	"bindery/client"
)

// printJSON prints v for programs.
func (s *session) printJSON(v any) error {
	e := json.NewEncoder(s.Out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// indented is v in JSON as printJSON has it, within something that is indented already.
func indented(v any, prefix string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent(prefix, "  ")
	err := e.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

// printLine prints v for programs that read line by line.
func (s *session) printLine(v any) error {
	e := json.NewEncoder(s.Out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// A table is rows under headings. What is in it may come from anybody.
type table struct{ rows [][]string }

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (s *session) printTable(t table) error {
	w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
	for _, row := range t.rows {
		for i, cell := range row {
			if row[i] = client.Printable(cell); row[i] == "" {
				row[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

// An outcome is what a command that changes something prints with -o json.
type outcome struct {
	thing
	State        bindery.OperationState
	Existed      bool // it was so already
	Operation    string
	DashboardURL string
}

// MarshalJSON implements [json.Marshaler]. Scripts rely on these names.
func (o outcome) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Instance     string                 `json:"instance"`
		InstanceID   string                 `json:"instance_id"`
		Binding      string                 `json:"binding,omitempty"`
		BindingID    string                 `json:"binding_id,omitempty"`
		State        bindery.OperationState `json:"state"`
		Existed      bool                   `json:"existed,omitempty"`
		Operation    string                 `json:"operation,omitempty"`
		DashboardURL string                 `json:"dashboard_url,omitempty"`
	}{o.instance, o.instanceID, o.binding, o.bindingID, o.State, o.Existed, o.Operation, o.DashboardURL})
}

// printOutcome prints one line: what it is, and what became of it.
func (s *session) printOutcome(o outcome, became string) error {
	if s.output == "json" {
		return s.printJSON(o)
	}
	if o.State == bindery.OpInProgress {
		s.note("follow it with: %s", o.follow(o.Operation))
	}
	_, err := fmt.Fprintf(s.Out, "%s: %s\n", o.thing, became)
	return err
}

// printCredentials prints what a bind, a rotation or a fetch gave.
func (s *session) printCredentials(t thing, b client.Binding, key string) error {
	values := b.Credentials.Keys()
	if key != "" {
		raw, ok := values[key]
		if !ok {
			return bindery.Errorf(bindery.CodeNotFound, "the credentials have no key %q; they have: %s",
				key, client.Printable(strings.Join(slices.Sorted(maps.Keys(values)), ", ")))
		}
		_, err := fmt.Fprintln(s.Out, client.Text(raw))
		return err
	}
	switch s.output {
	case "json":
		// Values in clear: showing them is what this command is for.
		object := json.RawMessage("{}")
		if !b.Credentials.Empty() {
			object = json.RawMessage(b.Credentials.Reveal())
		}
		return s.printJSON(struct {
			Instance        string                  `json:"instance"`
			InstanceID      string                  `json:"instance_id"`
			Binding         string                  `json:"binding"`
			BindingID       string                  `json:"binding_id"`
			Metadata        *client.BindingMetadata `json:"metadata,omitempty"`
			Credentials     json.RawMessage         `json:"credentials"`
			SyslogDrainURL  string                  `json:"syslog_drain_url,omitempty"`
			RouteServiceURL string                  `json:"route_service_url,omitempty"`
			VolumeMounts    []json.RawMessage       `json:"volume_mounts,omitempty"`
			Endpoints       []client.Endpoint       `json:"endpoints,omitempty"`
		}{
			t.instance, t.instanceID, t.binding, t.bindingID, b.Metadata, object,
			b.SyslogDrainURL, b.RouteServiceURL, b.VolumeMounts, b.Endpoints,
		})
	case "env":
		for _, k := range slices.Sorted(maps.Keys(values)) {
			if _, err := fmt.Fprintf(s.Out, "%s=%s\n", variable(k), quoteShell(client.Text(values[k]))); err != nil {
				return err
			}
		}
		return nil
	}
	var out table
	for _, k := range slices.Sorted(maps.Keys(values)) {
		out.add(k, client.Text(values[k]))
	}
	for _, extra := range [][2]string{{"(syslog drain)", b.SyslogDrainURL}, {"(route service)", b.RouteServiceURL}} {
		if extra[1] != "" {
			out.add(extra[0], extra[1])
		}
	}
	if b.Metadata != nil && b.Metadata.ExpiresAt != "" {
		out.add("(expires)", b.Metadata.ExpiresAt)
	}
	return s.printTable(out)
}

var (
	notInVariable = regexp.MustCompile(`[^A-Z0-9_]`)
	plainWord     = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,~-]+$`)
)

// variable is a key as the name of an environment variable.
func variable(key string) string {
	name := notInVariable.ReplaceAllString(strings.ToUpper(key), "_")
	if name == "" || (name[0] >= '0' && name[0] <= '9') {
		name = "_" + name
	}
	return name
}

// quoteShell quotes s for a POSIX shell where it needs that.
func quoteShell(s string) string {
	if plainWord.MatchString(s) && !strings.HasPrefix(s, "~") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func showTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
