package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"bindery"
	"bindery/seal"
)

func keyring(t testing.TB, current seal.Key, previous ...seal.Key) *seal.Keyring {
	t.Helper()
	r, err := seal.NewKeyring(current, previous...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// sealer makes one with a fresh data key.
func sealer(t testing.TB) bindery.Sealer {
	t.Helper()
	r := keyring(t, seal.NewKey())
	wrapped, err := r.Generate([]byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Unwrap(wrapped, []byte("place"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedOpensOnlyAtItsPlace(t *testing.T) {
	t.Parallel()
	s, other := sealer(t), sealer(t)
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.SliceOf(rapid.Byte()).Draw(t, "value")
		place := rapid.SliceOf(rapid.Byte()).Draw(t, "place")
		elsewhere := rapid.SliceOf(rapid.Byte()).Draw(t, "elsewhere")
		sealed := s.Seal(nil, value, place)
		if got, err := s.Open(nil, sealed, place); err != nil || !bytes.Equal(got, value) {
			t.Fatalf("open: got %q, %v", got, err)
		}
		if len(sealed) != len(value)+seal.Overhead {
			t.Fatalf("sealed %d bytes to %d", len(value), len(sealed))
		}
		if again := s.Seal(nil, value, place); bytes.Equal(again, sealed) {
			t.Fatal("sealed twice alike")
		}
		if _, err := s.Open(nil, sealed, elsewhere); err == nil && !bytes.Equal(place, elsewhere) {
			t.Fatal("moved, it opened")
		}
		if _, err := other.Open(nil, sealed, place); err == nil {
			t.Fatal("another key opened it")
		}
		at := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		changed := bytes.Clone(sealed)
		changed[at] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := s.Open(nil, changed, place); err == nil {
			t.Fatal("changed, it opened")
		}
		if _, err := s.Open(nil, sealed[:at], place); err == nil {
			t.Fatal("cut, it opened")
		}
	})
}

func TestSealAppends(t *testing.T) {
	t.Parallel()
	s := sealer(t)
	sealed := s.Seal([]byte("before "), []byte("value"), nil)
	if !bytes.HasPrefix(sealed, []byte("before ")) {
		t.Fatalf("got %q", sealed)
	}
	got, err := s.Open([]byte("clear "), sealed[len("before "):], nil)
	if err != nil || string(got) != "clear value" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	old, next := seal.NewKey(), seal.NewKey()
	before, both, after := keyring(t, old), keyring(t, next, old), keyring(t, next)
	place := []byte("store/data_keys/1")
	wrapped, err := before.Generate(place)
	if err != nil {
		t.Fatal(err)
	}
	if got := both.MasterOf(wrapped); got != old.ID() || before.Master() != old.ID() {
		t.Fatalf("wrapped by %s, want %s", got, old.ID())
	}
	first, err := before.Unwrap(wrapped, place)
	if err != nil {
		t.Fatal(err)
	}
	sealed := first.Seal(nil, []byte("value"), place)
	if _, err := after.Unwrap(wrapped, place); err == nil || !strings.Contains(err.Error(), old.ID()) {
		t.Fatalf("without the old key: got %v, want an error that names it", err)
	}
	if _, err := both.Unwrap(wrapped, []byte("store/data_keys/2")); err == nil {
		t.Fatal("a wrapped key could be moved")
	}
	again, err := both.Rewrap(wrapped, place)
	if err != nil || after.MasterOf(again) != next.ID() {
		t.Fatalf("rewrap: %v, by %s", err, after.MasterOf(again))
	}
	second, err := after.Unwrap(again, place)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := second.Open(nil, sealed, place); err != nil || string(got) != "value" {
		t.Fatalf("after the change: got %q, %v", got, err)
	}
	for i := range wrapped {
		changed := bytes.Clone(wrapped)
		changed[i] ^= 1
		if _, err := before.Unwrap(changed, place); err == nil {
			t.Fatalf("byte %d could be changed", i)
		}
	}
	if _, err := seal.NewKeyring(next, seal.Key{}); err == nil {
		t.Fatal("no key was taken for a key")
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	raw := bytes.Repeat([]byte{0xfb, 0xef, 0xff, 0x01}, 8)
	id := ""
	for name, text := range map[string]string{
		"base64":             base64.StdEncoding.EncodeToString(raw),
		"base64, no padding": base64.RawStdEncoding.EncodeToString(raw),
		"base64 of URLs":     base64.URLEncoding.EncodeToString(raw),
		"hexadecimal":        hex.EncodeToString(raw),
		"upper case":         strings.ToUpper(hex.EncodeToString(raw)),
		"a file's line":      " " + base64.StdEncoding.EncodeToString(raw) + "\n",
	} {
		k, err := seal.ParseKey(text)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if id == "" {
			id = k.ID()
		}
		if k.ID() != id || k.Reveal() != base64.StdEncoding.EncodeToString(raw) {
			t.Errorf("%s: another key", name)
		}
	}
	for name, text := range map[string]string{
		"empty":                                " \n",
		"short":                                base64.StdEncoding.EncodeToString(raw[:31]),
		"long":                                 base64.StdEncoding.EncodeToString(append(raw, 1)),
		"no base64":                            strings.Repeat("!", 43),
		"no hex":                               strings.Repeat("zz", 32),
		"zeros":                                strings.Repeat("00", 32),
		"a typing error in the last character": base64.RawStdEncoding.EncodeToString(raw)[:42] + "F",
	} {
		if _, err := seal.ParseKey(text); err == nil {
			t.Errorf("%s: it was taken for a key", name)
		} else if s := strings.TrimSpace(text); s != "" && strings.Contains(err.Error(), s) {
			t.Errorf("%s: the error repeats the key: %v", name, err)
		}
	}
}

func TestKeyDoesNotPrint(t *testing.T) {
	t.Parallel()
	k := seal.NewKey()
	wrapper := struct{ k seal.Key }{k} // unexported: fmt cannot call methods of it
	asJSON, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "key", k)
	raw, _ := base64.StdEncoding.DecodeString(k.Reveal())
	for _, out := range []string{
		fmt.Sprintf("%v %+v %#v %s %d %x", k, k, k, k, k, k), fmt.Sprintf("%v %+v %#v", wrapper, wrapper, wrapper), string(asJSON), log.String(),
	} {
		for _, form := range []string{k.Reveal(), hex.EncodeToString(raw), string(raw), fmt.Sprint(string(raw))} {
			if strings.Contains(out, form) {
				t.Errorf("it printed: %s", out)
			}
		}
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	f.Add(strings.Repeat("ab", 32))
	f.Fuzz(func(t *testing.T, text string) {
		k, err := seal.ParseKey(text)
		if err != nil {
			return
		}
		again, err := seal.ParseKey(k.Reveal())
		if err != nil || again.ID() != k.ID() {
			t.Fatalf("what Reveal writes is another key: %v", err)
		}
	})
}

// FuzzOpen feeds what nobody sealed.
func FuzzOpen(f *testing.F) {
	s := sealer(f)
	r := keyring(f, seal.NewKey())
	f.Add([]byte{}, []byte{})
	f.Add(s.Seal(nil, []byte("value"), []byte("place")), []byte("elsewhere"))
	f.Fuzz(func(t *testing.T, sealed, place []byte) {
		if got, err := s.Open(nil, sealed, place); err == nil && string(place) != "place" {
			t.Fatalf("it opened: %q", got)
		}
		if _, err := r.Unwrap(sealed, place); err == nil {
			t.Fatal("it unwrapped")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	s := sealer(b)
	value, place := bytes.Repeat([]byte("v"), 200), []byte("accounts/123456/material")
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Seal(nil, value, place)
		}
	})
	sealed := s.Seal(nil, value, place)
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Open(nil, sealed, place); err != nil {
				b.Fatal(err)
			}
		}
	})
}
