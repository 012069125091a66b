package mysql

import "strings"

// ident quotes a name. Between backticks only the backtick means anything,
// whatever the sql_mode is (ANSI_QUOTES too). A NUL cannot be in a name: it
// becomes U+FFFD, so that such a name is merely one that does not exist.
func ident(name string) string {
	return "`" + strings.ReplaceAll(withoutNUL(name), "`", "``") + "`"
}

// literal quotes a string for sessions without NO_BACKSLASH_ESCAPES, as
// Bindery's own are.
func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(withoutNUL(s)) + "'"
}

// pattern quotes a database's name for GRANT, which reads _ and % as wildcards:
// unescaped, bdy_a_1 would reach bdyXa_1 as well.
func pattern(database string) string {
	return ident(strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`).Replace(database))
}

// unpattern reads back what pattern wrote.
func unpattern(p string) string {
	return strings.NewReplacer(`\\`, `\`, `\_`, `_`, `\%`, `%`).Replace(p)
}

func withoutNUL(s string) string { return strings.ReplaceAll(s, "\x00", "\uFFFD") }
