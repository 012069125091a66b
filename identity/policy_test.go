package identity

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
)

func derName(t testing.TB, oneLine string) []byte {
	t.Helper()
	oids := map[string]asn1.ObjectIdentifier{
		"C": {2, 5, 4, 6}, "O": {2, 5, 4, 10}, "CN": {2, 5, 4, 3}, "E": {1, 2, 840, 113549, 1, 9, 1},
	}
	var name pkix.RDNSequence
	for part := range strings.SplitSeq(oneLine, "|") {
		typ, value, _ := strings.Cut(part, "=")
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: oids[typ], Value: value}})
	}
	der, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, name string // attributes of the name are separated by |
		want          bool
	}{
		{"/C=GR/O=Grid/*", "C=GR|O=Grid|CN=a", true},
		{"/C=GR/O=Grid/*", "C=GR|O=Grid|O=b|CN=a/b", true},
		{"/C=GR/O=Grid/*", "C=GR|O=Gridlock|CN=a", false},
		{"/C=GR/O=Grid/*", "C=GR|O=Grid", false},
		{"/C=GR/O=Grid*", "C=GR|O=Gridlock|CN=a", true},
		{"/c=GR/o=Grid/*", "C=GR|O=Grid|CN=a", true},
		{"/C=gr/O=Grid/*", "C=GR|O=Grid|CN=a", false},
		{"/C=GR/O=Grid/CN=*", "C=GR/O=Grid|CN=a", false},
		{"/C=GR/O=Grid/CN=*", "C=GR|O=Grid/CN=a", false},
		{"/C=GR/O=Grid/CN=*", "C=GR|O=Grid|CN=a/CN=b", true},
		{"/CN=host/*.example", "CN=host/a.example", true},
		{"/CN=host/a.example", "CN=host/a.example", true},
		{"/CN=host/a.example", "CN=host|CN=a.example", false},
		{"/CN=a?c", "CN=abc", true},
		{"/CN=a?CN=c", "CN=a|CN=c", false},
		{"/CN=a?c", "CN=ac", false},
		{"/Email=a@b/*", "E=a@b|CN=x", true},
		{"/emailAddress=a@b/*", "E=a@b|CN=x", true},
		{`/CN=\xC3\xA9`, "CN=é", true},
		{`/CN=a\x2A`, "CN=a*", true},
		{`/CN=a\x2A`, "CN=ab", false},
		{"*", "CN=a", true},
		{"/*", "CN=a", true},
		{"/*a*a*a*a*a*a*a*b", "CN=" + strings.Repeat("a", 5000), false},
	}
	for _, test := range tests {
		entries, err := parsePolicy([]byte("access_id_CA X509 '/CN=x'\npos_rights globus CA:sign\ncond_subjects globus '" + test.pattern + "'\n"))
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		name, err := oneLine(derName(t, test.name))
		if err != nil {
			t.Fatal(err)
		}
		if got := (&policy{entries[0].patterns}).allows(name); got != test.want {
			t.Errorf("%s allows %.60s: %v", test.pattern, test.name, got)
		}
	}
}

func TestPolicySyntax(t *testing.T) {
	t.Parallel()
	const head = "access_id_CA X509 '/CN=x'\npos_rights globus CA:sign\n"
	good := map[string]int{ // how many patterns
		head + `cond_subjects globus '"/C=a/*" "/C=b/*"'`:                                      2,
		head + `cond_subjects globus "/C=a/*"`:                                                 1,
		head + `cond_subjects globus /C=a/*`:                                                   1,
		head + "cond_subjects\tglobus   '/C=a/O=two words/*'  # why":                           1,
		head + "cond_subjects globus '/C=a/*'\r\ncond_subjects globus '/C=b/*'\r\n\r\n# end\n": 2,
		"\n# EACL\nACCESS_ID_CA x509 \"/CN=x\"\npos_rights GLOBUS ca:sign\n":                   0,
	}
	for text, want := range good {
		entries, err := parsePolicy([]byte(text))
		if err != nil || len(entries) != 1 || len(entries[0].patterns) != want {
			t.Errorf("%q: %v, %v", text, entries, err)
		}
	}
	for _, text := range []string{
		"", "# nothing", "access_id_CA X509", "access_id_CA X509 ''", "access_id_CA X509 '/CN=x", "access_id_CA pgp '/CN=x'",
		"pos_rights globus CA:sign", "cond_subjects globus '/C=a/*'",
		"access_id_CA X509 '/CN=x'\ncond_subjects globus '/C=a/*'",
		"access_id_CA X509 '/CN=x'\npos_rights globus CA:everything\n",
		"access_id_CA X509 '/CN=x'\nneg_rights globus CA:sign\ncond_subjects globus '/C=a/*'",
		head + `cond_subjects globus '"/C=a/*'`, head + `cond_subjects globus '"/C=a/*""/C=b"'`,
		head + `cond_subjects globus '/C=\a'`, head + `cond_subjects globus '/C=\x4'`, head + "cond_subjects globus '/C=\xff'",
		head + "cond_subjects other '/C=a'", head + "condsubjects globus '/C=a'", head + `cond_subjects globus ""`,
		head + "cond_subjects globus '/C=a'x",
	} {
		if entries, err := parsePolicy([]byte(text)); err == nil {
			t.Errorf("%q was read as %v", text, entries)
		}
	}
}

func TestSerials(t *testing.T) {
	t.Parallel()
	var s serials
	for _, content := range [][]byte{{0}, {1}, {0, 0xff}, {2, 1}, {1, 2}, {9, 9, 9}, {0, 0, 7}} {
		if !s.add(content) {
			t.Fatalf("%x is refused", content)
		}
	}
	if s.add(make([]byte, 65)) != true || s.add(append([]byte{1}, make([]byte, 64)...)) {
		t.Error("zeros do not count, and 65 bytes are too many")
	}
	s.sort()
	for _, in := range [][]byte{{}, {1}, {0xff}, {1, 2}, {2, 1}, {9, 9, 9}, {7}} {
		if !s.has(in) {
			t.Errorf("%x is missing", in)
		}
	}
	for _, out := range [][]byte{{2}, {1, 1}, {9, 9}, {9, 9, 8}, {9, 9, 9, 9}} {
		if s.has(out) {
			t.Errorf("%x is there", out)
		}
	}
	if (&serials{}).has(nil) {
		t.Error("0 is in the empty set")
	}
}

func TestRecent(t *testing.T) {
	t.Parallel()
	r := newRecent[int, int](10)
	for i := range 1000 {
		r.put(i, -i)
		if v, ok := r.get(0); !ok || v != 0 {
			t.Fatalf("what is in use was forgotten after %d", i)
		}
	}
	if n := r.len(); n > 20 {
		t.Errorf("%d are kept", n)
	}
	if v, added := r.first(999, 1); added || v != -999 {
		t.Errorf("first: %d %v", v, added)
	}
}
