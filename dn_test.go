package bindery_test

import (
	"slices"
	"strings"
	"testing"

	"bindery"
)

// Each group is one identity, spelled in several ways; no two groups are the same.
var spellings = [][]string{
	{
		`CN=b/c,O=a,C=GR,DC=argo,DC=gr`,
		` cn = b/c , o = a ; c=GR, dc = argo , Dc=gr `,
		`/DC=gr/DC=argo/C=GR/O=a/CN=b/c`,
		`/dc=gr/domainComponent=argo/countryName=GR/organizationName=a/commonName=b\/c`,
		`2.5.4.3=b/c,OID.2.5.4.10=#0c0161,oid.2.5.4.6=#13024752,0.9.2342.19200300.100.1.25=argo,DC=#16026772`,
		`CN="b/c",O=\61,C=G\52,DC="arg\6f",DC=gr`,
	},
	{`CN=b/c,O=a,C=GR,DC=gr,DC=argo`, `/DC=argo/DC=gr/C=GR/O=a/CN=b/c`},
	{`DC=argo,DC=gr,CN=b/c,O=a,C=GR`, `/C=GR/O=a/CN=b/c/DC=gr/DC=argo`},
	{`CN=b,CN=c`, `/CN=c/CN=b`},
	{`CN=b+CN=c`, `CN=c + CN=b`, `/CN=b+CN=c`},
	{`CN=b+CN=c,CN=a`},
	{`CN=c,CN=a+CN=b`},
	{`CN=c,CN=b,CN=a`},
	{`CN=b+UID=1`, `UID=1+CN=b`, `userid=1+CN=b`, `/CN=b+UID=1`},
	{`CN=b,UID=1`, `/UID=1/CN=b`},
	{`CN=b\+UID\=1`, `CN="b+UID=1"`, `/CN=b\+UID=1`},
	{`CN=a\+b`, `/CN=a+b`, `/CN=a\+b`},
	{`E=a@x.org`, `emailAddress=a@x.org`, `EMAIL=a@x.org`, `1.2.840.113549.1.9.1=#16076140782e6f7267`, `/Email=a@x.org`},
	{`O=Caf\C3\A9`, "O=Caf\u00e9", `O=#1404436166e9`, `O=#1e0800430061006600e9`, `/O=Caf\xC3\xA9`, `/O=Caf\xE9`, "/O=Caf\u00e9"},
	{"O=Cafe\u0301", `O=Cafe\CC\81`},
	{"O=caf\u00e9"},
	{`O=\ a\ `, `O=" a "`, `O=\20a\20`, `O = \20a\  `, `/O= a `},
	{`O=a`, `O=  a  `, `/O=a`},
	{`ST=a`, `S=a`, `SP=a`, `stateOrProvinceName=a`, `/ST=a`},
	{`SN=a`, `surname=a`, `/SN=a`},
	{`SERIALNUMBER=a`, `serialNumber=a`, `2.5.4.5=#130161`},
	{`O=`, `O=""`, `O=#0c00`, `/O=`},
	{`O=a\,`, `/O=a,`},
	{`O=#020105`, `O=#02810105`, `2.5.4.10=#020105`},
	{`O=\#020105`, `/O=#020105`},
	{`O=020105`},
	{`O=\5C`, `O=\\`, `/O=\`},
	{`O=\\2C`, `/O=\2C`},
	{`O=\\x2F`, `/O=\x2F`}, // OpenSSL writes no slash so: these four characters are the value
	{`1.3.6.1.4.1.99999.1=a`, `1.3.6.1.4.1.99999.1=#0c0161`, `/1.3.6.1.4.1.99999.1=a`},
	{`CN=http://x/?a=b`, `/CN=http://x/?a=b`},
	{`CN=a<b>`, `CN=a\<b\>`},
	{`CN=a=b`, `CN=a\=b`, `/CN=a=b`},
}

func TestSpellings(t *testing.T) {
	t.Parallel()
	owner := map[string]int{}
	for i, group := range spellings {
		for _, text := range group {
			d := fromText(t, text)
			if other, ok := owner[d.Key()]; ok && other != i {
				t.Errorf("%q is the same as %q", text, spellings[other][0])
			}
			owner[d.Key()] = i
			if want := fromText(t, group[0]); d.Key() != want.Key() {
				t.Errorf("%q is %v, not %v", text, d, want)
			}
			if again := fromText(t, d.String()); again.Key() != d.Key() {
				t.Errorf("%q is written %q, which is something else", text, d)
			}
		}
	}
}

func TestNoNames(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"testdn", "/", "//", "/a", "/testdn/CN=a", "CN", "=a", "CN=a,", ",CN=a", "CN=a,,O=b", "CN=a+", "CN=a b=c,d", "FOO=a", "/FOO=a",
		"/CN=a/FOO=b", // what OpenSSL knows and Bindery does not is no part of the value
		`CN="a`, `CN="a"b`, `CN=a"b`, `CN=a\`, `CN=a\x`, `CN=a\g1`, `CN=\E9`, `CN=\C3`, "CN=\xe9", "/O=\u00e9" + `\xE9`,
		"CN=#", "CN=#0", "CN=#0c", "CN=#0c02", "CN=#0c0161ff", "CN=#zz", "CN=#0c01ff", "CN=#1e0161", "CN=#1e02d800", "CN=#1c0400110000", "CN=#1301e9",
		"CN=#2c030c0161", "CN=#0c800000", "CN=#1f", "CN=#0c850000000001",
		"2.5.4.03=a", "3.1=a", "1.40=a", "1=a", "2.5.4.99999999999=a", "2..5=a", "OID.=a", "-a=b", "C N=a",
		strings.Repeat("O=a,", 200) + "O=a", "O=" + strings.Repeat("a", 9000), "/O=" + strings.Repeat(`\x0A`, 2700),
	} {
		if d, err := bindery.ParseDN(text); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("ParseDN(%q) = %v, %v", text, d, err)
		}
	}
}

func TestIdentifierKeys(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, auth := range []bindery.AuthType{bindery.AuthX509, bindery.AuthOIDC} {
		for _, text := range []string{
			"testdn", "TestDN", "testdn ", "CN=a", "CN=a,", "CN=b,O=a", "O=a,CN=b", "https://issuer#CN=a", "https://issuer#cn=a",
			"\x01\x01\x072.5.4.3\x01a\x00", // what is hashed for CN=a
		} {
			keys, err := bindery.IdentifierKeys(auth, text)
			if err != nil {
				t.Fatal(err)
			}
			again, err := bindery.IdentifierKeys(auth, text)
			if err != nil || again != keys {
				t.Errorf("%s %q has keys %v, and then %v, %v", auth, text, keys, again, err)
			}
			for _, key := range []string{keys.Exact, keys.Old} {
				if key == "" {
					continue
				}
				id := string(auth) + " " + text
				if other, ok := seen[key]; ok {
					t.Errorf("%s and %s share a key", id, other)
				}
				if seen[key] = id; len(key) != len(keys.Exact) || strings.ContainsAny(key, "+/=") {
					t.Errorf("%s has key %q", id, key)
				}
			}
			if auth == bindery.AuthOIDC && keys.Old != "" {
				t.Errorf("%q has an old form", text)
			}
		}
	}
	for _, c := range []struct {
		auth bindery.AuthType
		text string
		code bindery.Code
	}{
		{bindery.AuthX509, "", bindery.CodeInvalid},
		{bindery.AuthX509, "  ", bindery.CodeInvalid}, // the empty name is nobody's
		{bindery.AuthOIDC, "", bindery.CodeInvalid},
		{"kerberos", "a", bindery.CodeInvalid},
		{bindery.AuthX509, strings.Repeat("a", 9000), bindery.CodeTooLarge},
		{bindery.AuthOIDC, strings.Repeat("a", 9000), bindery.CodeTooLarge},
	} {
		if keys, err := bindery.IdentifierKeys(c.auth, c.text); bindery.CodeOf(err) != c.code {
			t.Errorf("IdentifierKeys(%s, %.20q) = %v, %v", c.auth, c.text, keys, err)
		}
	}
}

func TestEmptyName(t *testing.T) {
	t.Parallel()
	empty := []bindery.DN{{}, fromText(t, ""), fromText(t, " "), fromDER(t, []byte{0x30, 0})}
	for _, d := range empty {
		if d.Key() != empty[0].Key() || d.String() != "" || d.Keys().Old != "" {
			t.Errorf("the empty name has key %s, text %q, keys %v", d.Key(), d, d.Keys())
		}
	}
}

func TestNoDER(t *testing.T) {
	t.Parallel()
	good := modelName{{{oidCN, "a"}}}.der(t, func(int) int { return 0 })
	for _, raw := range [][]byte{
		nil,
		{0x30},
		{0x31, 0},
		{0x30, 2, 0x31, 0},
		slices.Concat(good, []byte{0}), good[:len(good)-1],
		modelName{{{oidCN, strings.Repeat("a", 9000)}}}.der(t, func(int) int { return 0 }),
	} {
		if d, err := bindery.DNFromDER(raw); bindery.CodeOf(err) != bindery.CodeInvalid {
			t.Errorf("DNFromDER(%.20x) = %v, %v", raw, d, err)
		}
	}
}
