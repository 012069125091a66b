package exchange

import (
	"strings"
	"testing"
)

func TestNesting(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{
		`"t"`: 0, `{}`: 1, `[[],{"a":[1]}]`: 3, `[[],[],[]]`: 2,
		`["[[[[", {"{{{": "\"[["}]`: 2, `["\\", []]`: 2,
	} {
		if got := nesting([]byte(value)); got != want {
			t.Errorf("%s: %d levels, not %d", value, got, want)
		}
	}
	token := strings.Repeat("[", maxNesting) + `"[["` + strings.Repeat("]", maxNesting)
	if got, err := fieldOf([]byte(`{"token": `+token+`}`), "token"); err != nil || string(got) != token {
		t.Errorf("got %s, %v", got, err)
	}
}
