package bindery

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// wish is an object of settings with a key of every sort.
type wish struct {
	Number   int64
	Flag     bool
	Access   Access
	Duration time.Duration
}

func (w *wish) read(raw string) error {
	*w = wish{Number: 7, Flag: true, Access: ReadWrite, Duration: time.Hour}
	return Settings{
		"number": Number(&w.Number, 1, 10), "flag": Flag(&w.Flag), "access": AccessParameter(&w.Access),
		"duration": Duration(&w.Duration, time.Second, 2*time.Hour),
	}.Read("wishes", json.RawMessage(raw))
}

func TestSettings(t *testing.T) {
	t.Parallel()
	standard := wish{Number: 7, Flag: true, Access: ReadWrite, Duration: time.Hour}
	for raw, want := range map[string]wish{
		"": standard, " \n": standard, "{}": standard,
		`{"number":10,"flag":false,"access":"read-only","duration":"1m30s"}`: {Number: 10, Access: ReadOnly, Duration: 90 * time.Second},
	} {
		var got wish
		if err := got.read(raw); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", raw, got, err, want)
		}
	}
	const number, flag = `"number" must be a whole number from 1 to 10`, `"flag" must be true or false`
	const access, duration = `"access" must be read-write or read-only`, `"duration" must be a duration such as "720h", from 1s to 2h0m0s`
	for raw, want := range map[string][]string{
		`null`: {"must be a JSON object"}, `[]`: {"must be a JSON object"}, `{}{}`: {"must be a JSON object"}, `{"number":`: {"must be a JSON object"},
		`{"number":11,"flag":1,"access":"s3cret","duration":"s3cret","Flag":true}`: {number, flag, access, duration, `"Flag" is not known`},
		`{"number":0}`: {number}, `{"number":1.5}`: {number}, `{"number":"1"}`: {number}, `{"duration":3}`: {duration}, `{"duration":"3h"}`: {duration},
		`{"number":null,"flag":null,"access":null,"duration":null}`: {number, flag, access, duration},
		`{"` + strings.Repeat("k", 1000) + `":1}`:                   {strings.Repeat("k", 63) + `" is not known`},
	} {
		err := new(wish).read(raw)
		if CodeOf(err) != CodeInvalid || strings.Contains(err.Error(), "s3cret") || len(err.Error()) > 400 ||
			strings.Count(err.Error(), ";") != len(want)-1 {
			t.Errorf("%s: got %v", raw, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: got %v, want also %s", raw, err, w)
			}
		}
	}
}

func FuzzSettings(f *testing.F) {
	for _, s := range []string{"", `{"number":1}`, `{"flag":null}`, `{"access":"read-only","duration":"1h","x":{}}`, `null`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		var w wish
		err := w.read(raw)
		if err != nil && CodeOf(err) != CodeInvalid {
			t.Fatalf("got code %s", CodeOf(err))
		}
		if err == nil && (w.Number < 1 || w.Number > 10 || !w.Access.Valid() || w.Duration < time.Second || w.Duration > 2*time.Hour) {
			t.Fatalf("got %v", w)
		}
	})
}

func TestPublicIsCompleted(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]PublicAddress{
		"db.example:5432": {Host: "db.example", Port: 5432}, "[2001:db8::1]:1": {Host: "2001:db8::1", Port: 1},
		"db.example": {}, "db.example:0": {}, "db.example:65536": {}, "db.example:postgres": {}, ":5432": {}, "": {},
	} {
		s := Server{Address: address}
		err := s.CompletePublic()
		if (err == nil) != (want != PublicAddress{}) || err != nil && CodeOf(err) != CodeInvalid || s.Public != want {
			t.Errorf("%q: got %v, %v, want %v", address, s.Public, err, want)
		}
	}
	own := PublicAddress{Host: "front.example", Port: 6000, TLS: true}
	s := Server{Address: "db.example:5432", Public: own}
	if err := s.CompletePublic(); err != nil || s.Public != own {
		t.Errorf("got %v, %v", s.Public, err)
	}
}

func TestIsInstallation(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{"abc123": true, "000000": true, "": false, "abc12": false, "abc1234": false, "Abc123": false, "abc-12": false, "abc12\n": false, "äbc12": false} {
		if got := IsInstallation(id); got != want {
			t.Errorf("%q: got %t", id, got)
		}
	}
}
