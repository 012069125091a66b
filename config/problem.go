package config

import (
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing that is wrong with a configuration.
type Problem struct {
	Line int    // 0: no particular one
	Path string // where, for example catalog[0].plans[1].id; may be empty
	Text string
}

// Invalid is every problem of one file. Its text has one line for each.
type Invalid struct {
	File     string
	Problems []Problem
}

// Error lists the problems, each as file:line: path: text.
func (e *Invalid) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		b.WriteString(": ")
		if p.Path != "" {
			b.WriteString(p.Path + ": ")
		}
		b.WriteString(p.Text)
	}
	return b.String()
}

// sorted returns the problems in the order of the file.
func (c *checker) sorted() []Problem {
	slices.SortStableFunc(c.problems, func(a, b Problem) int { return a.Line - b.Line })
	return slices.Compact(c.problems)
}

// addf notes a problem at path, on the line of the nearest thing that is there.
func (c *checker) addf(path, format string, args ...any) {
	c.problems = append(c.problems, Problem{Line: c.line(path), Path: path, Text: fmt.Sprintf(format, args...)})
}

func (c *checker) warnf(format string, args ...any) {
	c.warnings = append(c.warnings, fmt.Sprintf(format, args...))
}

func (c *checker) line(path string) int {
	for path != "" {
		if l, ok := c.lines[path]; ok {
			return l
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			break
		}
		path = path[:i]
	}
	return 0
}
