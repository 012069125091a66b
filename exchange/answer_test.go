package exchange

import (
	"strings"
	"testing"
)

func TestExtent(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{
		`"t"`: 0, `{}`: 1, `[[],{"a":[1]}]`: 3, `[[],[],[]]`: 2,
		`["[[[[", {"{{{": "\"[["}]`: 2, `["\\", []]`: 2,
		`""`: 0, `"\\"`: 0, `"\",}"`: 0, `-1.5e9`: 0, `true`: 0, `[ "]" , 1 ]`: 1,
	} {
		for _, after := range []string{"", ",", " ,", "}", "]", "\n}"} {
			if n, got := extent([]byte(value + after)); got != want || n != len(value) {
				t.Errorf("%s%s: %d bytes and %d levels, not %d and %d", value, after, n, got, len(value), want)
			}
		}
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", maxNesting) + `"[["` + strings.Repeat("]", maxNesting)
	for answer, want := range map[string]string{
		`{"token": ` + deep + `}`: deep,
		`{"token":"a"}`:           `"a"`,
		" {\n\t\"x\" : {\"token\":1} ,\r\n\"token\" : 2 }": `2`,
		`{"token":1,"token":"last"}`:                       `"last"`,
		`{"Token":1,"to\u006ben":true,"tokens":2}`:         `true`,
		`{"a":"\"token\":1,","token":null,"b":[]}`:         `null`,
		`{"token":{"a" : [ 1, 2 ]}}`:                       `{"a":[1,2]}`,
	} {
		if got, err := fieldOf([]byte(answer), "token"); err != nil || string(got) != want {
			t.Errorf("%s: got %s, %v", answer, got, err)
		}
	}
	for _, answer := range []string{
		``, ` `, `null`, `"token"`, `["token",1]`, `{}`, `{"a":{"token":1}}`, `{"Token":1}`, `{"token":1}}`, `{"token":1`,
		`{"token":"` + "\xff" + `"}`, `{"token":[` + deep + `]}`,
	} {
		if got, err := fieldOf([]byte(answer), "token"); err == nil {
			t.Errorf("%s: got %s", answer, got)
		}
	}
}
