package postgres

import "strings"

// ident quotes a name. Inside double quotes only the double quote means
// anything, whatever the server's settings are. A NUL cannot be in a name, and
// would cut the statement short: it becomes U+FFFD, so that such a name is
// merely one that does not exist.
func ident(name string) string {
	return `"` + strings.ReplaceAll(withoutNUL(name), `"`, `""`) + `"`
}

// literal quotes a string. Every session sets standard_conforming_strings, but
// the result does not depend on it: with a backslash inside, it is an escape
// string, in which a backslash is always doubled.
func literal(s string) string {
	s = strings.ReplaceAll(withoutNUL(s), `'`, `''`)
	if !strings.Contains(s, `\`) {
		return `'` + s + `'`
	}
	// The space keeps the E away from a word before it.
	return ` E'` + strings.ReplaceAll(s, `\`, `\\`) + `'`
}

// idents quotes names, and joins them with commas.
func idents(names []string) string { return quoted(names, ident) }

// literals quotes strings, and joins them with commas.
func literals(values []string) string { return quoted(values, literal) }

func quoted(values []string, quote func(string) string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = quote(v)
	}
	return strings.Join(out, ", ")
}

func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }
