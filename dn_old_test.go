package bindery_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"bindery"
)

// utf8DER encodes a name with UTF8Strings only.
func utf8DER(t failer, n modelName) []byte { return n.der(t, func(int) int { return 0 }) }

// oldName is what the old service saw of a certificate: Go's pkix.Name.
func oldName(t failer, raw []byte) (name pkix.Name, emails, dcs []string) {
	t.Helper()
	var seq pkix.RDNSequence
	if _, err := asn1.Unmarshal(raw, &seq); err != nil {
		t.Fatal(err)
	}
	name.FillFromRDNSequence(&seq)
	for _, a := range name.Names {
		switch a.Type.String() {
		case oidEmail:
			emails = append(emails, "E="+a.Value.(string))
		case oidDC:
			dcs = append(dcs, "DC="+a.Value.(string))
		}
	}
	return name, emails, dcs
}

// oldText is the old service's text, by its own means.
func oldText(t failer, raw []byte) string {
	name, emails, dcs := oldName(t, raw)
	text := name.ToRDNSequence().String()
	if len(emails) > 0 {
		text = strings.Join(emails, "+") + "," + text
	}
	if len(dcs) > 0 {
		text += "," + strings.Join(dcs, "+")
	}
	return text
}

// keptAll counts what the old service kept against what there was.
func keptAll(t failer, raw []byte) bool {
	name, emails, dcs := oldName(t, raw)
	kept := len(emails) + len(dcs)
	for _, values := range [][]string{
		name.Country, name.Organization, name.OrganizationalUnit, name.Locality, name.Province, name.StreetAddress, name.PostalCode,
	} {
		kept += len(values)
	}
	for _, value := range []string{name.CommonName, name.SerialNumber} {
		if value != "" {
			kept++
		}
	}
	return kept == len(name.Names)
}

// plain: the old service wrote e-mail addresses and domain components without
// escapes, and its text says something else where they look like syntax.
func plain(n modelName) bool {
	for _, r := range n {
		for _, a := range r {
			syntax := strings.ContainsAny(a.value, `\"=`) || strings.Trim(a.value, " ,;+#") != a.value
			if (a.oid == oidEmail || a.oid == oidDC) && syntax {
				return false
			}
		}
	}
	return true
}

// genOldName draws names of which the old form often drops nothing.
func genOldName() *rapid.Generator[modelName] {
	return rapid.Custom(func(t *rapid.T) modelName {
		n := genName().Draw(t, "name")
		if rapid.IntRange(0, 3).Draw(t, "as it is") == 0 {
			return n
		}
		var singles []string
		for i, r := range n {
			for j, a := range r {
				if a.oid == oidUID || a.oid == oidSN || a.oid == oidOther || slices.Contains(singles, a.oid) {
					a.oid = oidOU
				}
				if a.oid == oidCN || a.oid == oidSerial {
					singles = append(singles, a.oid)
					a.value += "x"
				}
				n[i][j] = a
			}
		}
		return n
	})
}

func TestOldFormIsTheOldServices(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		name := genOldName().Draw(t, "name")
		raw := utf8DER(t, name)
		d := fromDER(t, raw)
		text, whole := d.OldForm()
		if want := oldText(t, raw); text != want {
			t.Fatalf("old form %q; the old service says %q", text, want)
		}
		if want := keptAll(t, raw); whole != want {
			t.Fatalf("%q: whole %v, want %v", text, whole, want)
		}
		old := d.Keys().Old
		if (old != "") != whole {
			t.Fatalf("%q: whole %v, and the key is %q", text, whole, old)
		}
		if !whole {
			seen["dropped"]++
			return
		}
		if !plain(name) {
			seen["not plain"]++
			return
		}
		seen["whole"]++
		keys, err := bindery.IdentifierKeys(bindery.AuthX509, text)
		if err != nil || keys.Old != old {
			t.Fatalf("a binding to %q has %v, %v; the certificate has %v", text, keys, err, d.Keys())
		}
	})
	if !t.Failed() && (seen["whole"] < 10 || seen["dropped"] < 10) {
		t.Errorf("the names that were drawn show little: %v", seen)
	}
}

// Two certificates share an old key only where the old form tells the values of
// each type, in their order, and those are the same.
func TestOldKeysTellCertificatesApart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one := genOldName().Draw(t, "one")
		other := rapid.OneOf(genOldName(), genNeighbour(one)).Draw(t, "other")
		rawOne, rawOther := utf8DER(t, one), utf8DER(t, other)
		a, b := fromDER(t, rawOne).Keys(), fromDER(t, rawOther).Keys()
		same := keptAll(t, rawOne) && keptAll(t, rawOther) && valuesByType(t, rawOne) == valuesByType(t, rawOther)
		if got := a.Old != "" && a.Old == b.Old; got != same {
			t.Fatalf("equal old keys: %v, want %v, for\n%v\n%v", got, same, one, other)
		}
		if a.Exact == a.Old || a.Exact == b.Old {
			t.Fatalf("an exact key is an old key: %v, %v", a, b)
		}
	})
}

func valuesByType(t failer, raw []byte) string {
	name, _, _ := oldName(t, raw)
	slices.SortStableFunc(name.Names, func(a, b pkix.AttributeTypeAndValue) int {
		return strings.Compare(a.Type.String(), b.Type.String())
	})
	return fmt.Sprintf("%q", name.Names)
}

func TestOldForm(t *testing.T) {
	t.Parallel()
	const binding = `E=a@argo.gr,CN=robot one,OU=ou1+OU=ou2,O=o\, inc,L=Athens,C=GR,DC=gr+DC=argo`
	for _, c := range []struct {
		name, certificate, typed string
		match                    bool
	}{
		{"every type", `/DC=gr/DC=argo/C=GR/L=Athens/O=o, inc/OU=ou1/OU=ou2/CN=robot one/emailAddress=a@argo.gr`, binding, true},
		{"DCs at the other end", `/C=GR/L=Athens/O=o, inc/OU=ou1/OU=ou2/CN=robot one/emailAddress=a@argo.gr/DC=gr/DC=argo`, binding, true},
		{"another order across types", `/CN=robot one/OU=ou1/emailAddress=a@argo.gr/C=GR/OU=ou2/DC=gr/L=Athens/O=o, inc/DC=argo`, binding, true},
		{"sets", `/DC=gr+DC=argo/C=GR+L=Athens/O=o, inc/OU=ou1+OU=ou2/CN=robot one/E=a@argo.gr`, binding, true},
		{"another order within a type", `/DC=argo/DC=gr/C=GR/L=Athens/O=o, inc/OU=ou1/OU=ou2/CN=robot one/E=a@argo.gr`, binding, false},
		{"one value more", `/DC=gr/DC=argo/C=GR/L=Athens/O=o, inc/OU=ou1/OU=ou2/OU=ou3/CN=robot one/E=a@argo.gr`, binding, false},
		{"two common names", `/O=x/CN=alice/CN=robot`, `CN=robot,O=x`, false},
		{"two serial numbers", `/O=x/CN=a/serialNumber=1/serialNumber=2`, `SERIALNUMBER=2,CN=a,O=x`, false},
		{"a type that it drops", `/O=x/CN=a/UID=7`, `CN=a,O=x`, false},
		{"an empty common name", `/O=x/CN=`, `O=x`, false},
		{"a value that is no text", "CN=a,O=x,L=#020101", `CN=a,O=x`, false},
		{"another case", `/O=x/CN=A`, `CN=a,O=x`, false},
		{"a serial number", `/serialNumber=1/O=x/CN=a`, `SERIALNUMBER=1,CN=a,O=x`, true},
		{"the order of today's pkix.Name", `/O=x/C=GR/ST=s/L=l/STREET=r/postalCode=1/OU=u/CN=a`, `CN=a,OU=u,O=x,POSTALCODE=1,STREET=r,L=l,ST=s,C=GR`, true},
		{"the other order of pkix.Name", `/O=x/C=GR/ST=s/L=l/STREET=r/postalCode=1/OU=u/CN=a`, `CN=a,POSTALCODE=1,STREET=r,ST=s,L=l,OU=u,O=x,C=GR`, true},
		{"no order of pkix.Name", `/O=x/C=GR/CN=a`, `CN=a,C=GR,O=x`, false},
		{"turned round", `/CN=a/O=x/C=GR`, `CN=a,O=x,C=GR`, true},
		{"turned round, typed the other way", `/C=GR/O=x/CN=a`, `C=GR,O=x,CN=a`, false},
		{"a type in two places", `/DC=argo/DC=gr/O=x/CN=a`, `CN=a,O=x,DC=gr,DC=argo`, false},
		{"the one-line form tolerates nothing", `/CN=a/O=x`, `/O=x/CN=a`, false},
		{"other spellings of the old form", `/O=caf\xC3\xA9/CN=a`, `2.5.4.3 = "a" , o=caf\C3\A9`, true},
		{"a plus sign in an e-mail address", `/O=x/CN=a/E=a+b@x.org`, `E=a+b@x.org,CN=a,O=x`, true},
		{"the same, escaped", `/CN=a/O=x/E=a+b@x.org`, `E=a\+b@x.org,CN=a,O=x`, true},
		{"a comma in a domain component", `/O=x/DC=a, b/DC=c`, `O=x,DC=a, b+DC=c`, true},
		{"domain components only", `/DC=gr/DC=argo`, `,DC=gr+DC=argo`, true},
		{"an e-mail address only", `/E=a@x.org`, `E=a@x.org,`, true},
		{"these two", `/DC=gr/E=a@x.org`, `E=a@x.org,,DC=gr`, true},
		{"an empty value of another type", `/L=`, `ST=`, false},
		{"a comma at the end of a value", `/O=a,/DC=gr`, `O=a\,,DC=gr`, true},
		{"a space at the end of a value", `CN=a,C=x\ `, `CN=a,C=x\ `, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			proven := fromText(t, c.certificate).Keys()
			typed, err := bindery.IdentifierKeys(bindery.AuthX509, c.typed)
			if err != nil {
				t.Fatal(err)
			}
			if got := proven.Old != "" && proven.Old == typed.Old; got != c.match {
				t.Errorf("%q proves %q by the old form: %v, want %v", c.certificate, c.typed, got, c.match)
			}
		})
	}
}

// A text that the old service never wrote has no old key.
func TestNoOldForm(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"testdn", "CN=a+CN=b,O=x", "CN=,O=x", "SERIALNUMBER=1+SERIALNUMBER=2,CN=a", "CN=a+OU=b", "UID=1,CN=a", "O=x,CN=a", "CN=a,CN=b",
		"CN=a,E=b@x.org", "DC=gr,CN=a", "CN=a,DC=gr,DC=argo", "CN=a,O=#020101", ",CN=a", "CN=a,", "E=a@x.org,CN=a,,DC=gr,", "CN=a,,DC=gr", "/CN=a",
	} {
		if keys, err := bindery.IdentifierKeys(bindery.AuthX509, text); err != nil || keys.Old != "" {
			t.Errorf("IdentifierKeys(%q) = %v, %v", text, keys, err)
		}
	}
}

// What pkix.Name has no string for is dropped, or was the end of the old service.
func TestOldFormOfOtherValues(t *testing.T) {
	t.Parallel()
	for _, oid := range []string{oidO, oidEmail, oidDC, oidCN} {
		raw, err := asn1.Marshal(pkix.RDNSequence{{{Type: parseOID(t, oidOU), Value: "u"}}, {{Type: parseOID(t, oid), Value: 7}}})
		if err != nil {
			t.Fatal(err)
		}
		d := fromDER(t, raw)
		if text, whole := d.OldForm(); text != "OU=u" || whole {
			t.Errorf("%s: old form %q, whole %v", d, text, whole)
		}
	}
}

func TestIsOldForm(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`E=a@argo.gr,CN=robot one,OU=ou1+OU=ou2,O=o\, inc,L=Athens,C=GR,DC=gr+DC=argo`: true,
		`CN=robot,L=Athens,OU=ou,O=x,C=GR`:                                             true, // the other order
		`CN=robot,O=x`:                                                                 true,
		`CN=robot, O=x`:                                                                false,
		`cn=robot,O=x`:                                                                 false,
		`CN=robot,O=o\2c inc`:                                                          false,
		`O=x,CN=robot`:                                                                 false,
		`/O=x/CN=robot`:                                                                false,
		`CN=robot,UID=1`:                                                               false, // it never wrote one
		`nobody at all`:                                                                false,
		``:                                                                             false,
		`emailAddress=a@argo.gr,CN=robot`:                                              false,
		`E=a@argo.gr,CN=robot,C=GR,DC=argo`:                                            true,
	} {
		if got := bindery.IsOldForm(text); got != want {
			t.Errorf("IsOldForm(%q) is %t", text, got)
		}
	}
}
