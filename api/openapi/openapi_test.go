package openapi_test

import (
	"bytes"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"bindery/api/openapi"
)

func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	raw, err := openapi.Document()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.Security == nil {
				t.Errorf("%s %s does not say who may call it", method, path)
			}
			if other := ids[op.OperationID]; other != "" || op.OperationID == "" {
				t.Errorf("%s %s: operationId %q is missing or that of %s", method, path, op.OperationID, other)
			}
			ids[op.OperationID] = path
		}
	}
	again, err := openapi.Document()
	if err != nil || !bytes.Equal(raw, again) {
		t.Errorf("two readings differ (%v)", err)
	}
	for _, word := range []string{"x-shared", `"<<"`} {
		if bytes.Contains(raw, []byte(word)) {
			t.Errorf("%s is left over", word)
		}
	}
}
