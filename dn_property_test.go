package bindery_test

import (
	"testing"

	"pgregory.net/rapid"

	"bindery"
)

func fromDER(t failer, raw []byte) bindery.DN {
	t.Helper()
	d, err := bindery.DNFromDER(raw)
	if err != nil {
		t.Fatalf("DNFromDER(%x): %v", raw, err)
	}
	return d
}

func fromText(t failer, text string) bindery.DN {
	t.Helper()
	d, err := bindery.ParseDN(text)
	if err != nil {
		t.Fatalf("ParseDN(%q): %v", text, err)
	}
	return d
}

// drawDER encodes a name with any of the string types that can hold its values.
func drawDER(t *rapid.T, n modelName) []byte { return n.der(t, newSpeller(t).IntN) }

func TestEverySpellingIsOneIdentity(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := genName().Draw(t, "name")
		s := newSpeller(t)
		want := fromDER(t, drawDER(t, name))
		if again := fromDER(t, drawDER(t, name)); again.Key() != want.Key() {
			t.Fatalf("string types make two keys of\n%v", name)
		}
		texts := []string{want.String(), s.commas(name), s.commas(name)}
		if text, ok := s.oneLine(name); ok {
			texts = append(texts, text)
		}
		for _, text := range texts {
			if got := fromText(t, text); got.Key() != want.Key() {
				t.Fatalf("%q is read as\n%v, not\n%v", text, got, want)
			}
			keys, err := bindery.IdentifierKeys(bindery.AuthX509, text)
			if err != nil || keys.Exact != want.Keys().Exact {
				t.Fatalf("IdentifierKeys(%q) = %v, %v; the certificate has %v", text, keys, err, want.Keys())
			}
		}
	})
}

func TestDifferentNamesAreDifferentIdentities(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		one := genName().Draw(t, "one")
		other := rapid.OneOf(genName(), genNeighbour(one)).Draw(t, "other")
		same := one.String() == other.String()
		a, b := fromDER(t, drawDER(t, one)), fromDER(t, drawDER(t, other))
		if got := a.Key() == b.Key(); got != same {
			t.Fatalf("equal keys: %v, the same name: %v\n%v\n%v", got, same, a, b)
		}
		if got := a.String() == b.String(); got && !same {
			t.Fatalf("two names are written %v", a)
		}
		typed := fromText(t, newSpeller(t).commas(other))
		if got := a.Key() == typed.Key(); got != same {
			t.Fatalf("equal keys: %v, the same name: %v\n%v\n%v", got, same, a, typed)
		}
	})
}

// genNeighbour draws names that differ in one thing only, or not at all.
func genNeighbour(n modelName) *rapid.Generator[modelName] {
	return rapid.Custom(func(t *rapid.T) modelName {
		out := n.clone()
		i := rapid.IntRange(0, len(out)-1).Draw(t, "rdn")
		j := rapid.IntRange(0, len(out[i])-1).Draw(t, "attribute")
		a := &out[i][j]
		switch rapid.IntRange(0, 9).Draw(t, "change") {
		case 0: // an RDN elsewhere: DCs at the other end
			out = append(append(out[:i:i], out[i+1:]...), out[i])
		case 1: // one more of the same type: a second CN
			out = append(out, modelRDN{{a.oid, genValue().Draw(t, "value")}})
		case 2: // one fewer
			out = append(out[:i:i], out[i+1:]...)
			if len(out) == 0 {
				out = modelName{{{oidUID, "1"}}}
			}
		case 3: // a type
			a.oid = rapid.SampledFrom(modelOIDs).Draw(t, "type")
		case 4: // a value
			a.value = genValue().Draw(t, "value")
		case 5: // a character
			r := []rune(a.value + "x")
			r[rapid.IntRange(0, len(r)-1).Draw(t, "at")] ^= 0x20
			a.value = string(r)
		case 6: // two RDNs as one
			if i+1 < len(out) {
				out[i] = append(out[i], out[i+1]...)
				out = append(out[:i+1:i+1], out[i+2:]...)
			}
		case 7: // one RDN as two
			if len(out[i]) > 1 {
				first, rest := out[i][:1], out[i][1:]
				out = append(append(out[:i:i], first, rest), out[i+1:]...)
			}
		case 8: // a space
			a.value += " "
		case 9: // an attribute twice in its set
			out[i] = append(out[i], *a)
		}
		return out
	})
}
