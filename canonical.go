package bindery

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"strings"
)

// maxExponent bounds the numbers that Canonical takes apart, so that 1e999999999 costs nothing.
const maxExponent = 400

// Canonical returns the one spelling of a JSON value that all spellings of it
// share: no white space, keys sorted, 1.0 and 1e0 as 1. Two values are the same
// value where their canonical spellings are equal. Empty input stays empty; so
// does null, which the specification's readers treat alike.
// Errors: CodeInvalid for what is not one JSON value.
func Canonical(raw json.RawMessage) (json.RawMessage, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, Errorf(CodeInvalid, "not a JSON value").Because(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, Errorf(CodeInvalid, "more than one JSON value")
	}
	if v == nil {
		return nil, nil
	}
	out, err := json.Marshal(normal(v))
	if err != nil {
		return nil, Errorf(CodeInvalid, "not a JSON value").Because(err)
	}
	return out, nil
}

func normal(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = normal(e)
		}
	case []any:
		for i, e := range v {
			v[i] = normal(e)
		}
	case json.Number:
		return normalNumber(v)
	}
	return v
}

// normalNumber writes whole numbers as digits and others as a reduced
// fraction's decimal; a number too large to take apart keeps its spelling.
func normalNumber(n json.Number) json.Number {
	if _, exponent, ok := strings.Cut(strings.ToLower(string(n)), "e"); ok {
		e, ok := new(big.Int).SetString(exponent, 10)
		if !ok || e.CmpAbs(big.NewInt(maxExponent)) > 0 {
			return n
		}
	}
	r, ok := new(big.Rat).SetString(string(n))
	if !ok {
		return n
	}
	if r.IsInt() {
		return json.Number(r.Num().String())
	}
	prec, exact := r.FloatPrec()
	if !exact {
		return n
	}
	return json.Number(r.FloatString(prec))
}
