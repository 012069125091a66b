package bindery_test

import (
	"testing"

	"bindery"
)

func FuzzParseDN(f *testing.F) {
	for _, group := range spellings {
		for _, text := range group {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		keys, err := bindery.IdentifierKeys(bindery.AuthX509, text)
		if err == nil && keys.Exact == "" {
			t.Fatalf("IdentifierKeys(%q) has no exact key", text)
		}
		d, err := bindery.ParseDN(text)
		if err != nil {
			return
		}
		again, err := bindery.ParseDN(d.String())
		if err != nil || again.Key() != d.Key() {
			t.Fatalf("%q is written %q, and read as %v, %v", text, d, again, err)
		}
		checkOldForm(t, d)
	})
}

func FuzzDNFromDER(f *testing.F) {
	for i := range 7 {
		f.Add(modelName{{{oidDC, "1"}}, {{oidO, "1"}, {oidUID, "2 3"}}, {{oidCN, "4"}}}.der(f, func(n int) int { return i % n }))
	}
	f.Add([]byte("\x30\x0e\x31\x0c0\n\x06\x03U\x04\x03\x02\x03\x01\x02\x03"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := bindery.DNFromDER(raw)
		if err != nil {
			return
		}
		again, err := bindery.ParseDN(d.String())
		if err != nil || again.Key() != d.Key() {
			t.Fatalf("%x is written %q, and read as %v, %v", raw, d, again, err)
		}
		checkOldForm(t, d)
	})
}

// checkOldForm: there is an old key where, and only where, nothing is dropped.
func checkOldForm(t *testing.T, d bindery.DN) {
	t.Helper()
	text, whole := d.OldForm()
	if got := d.Keys().Old != ""; got != (whole && d.String() != "") {
		t.Fatalf("%v: old form %q, whole %v, and it has an old key: %v", d, text, whole, got)
	}
}
