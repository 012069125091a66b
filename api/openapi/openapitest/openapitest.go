// Package openapitest holds answers against the OpenAPI document: every test
// that talks HTTP to Bindery can, and the conformance suite does for each answer.
package openapitest

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"bindery/api/openapi"
)

// A Document is the OpenAPI document, ready to check answers. It may be used by
// many goroutines at once.
type Document struct{ router routers.Router }

// Load reads the document of this source tree.
func Load(tb testing.TB) *Document {
	tb.Helper()
	raw, err := openapi.Document()
	if err != nil {
		tb.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(raw)
	if err != nil {
		tb.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		tb.Fatal(err)
	}
	return &Document{router: router}
}

// Knows reports whether the document has the method and path.
func (d *Document) Knows(method, path string) bool {
	_, _, err := d.find(method, path)
	return err == nil
}

func (d *Document) find(method, path string) (*routers.Route, map[string]string, error) {
	u, err := url.Parse(path)
	if err != nil {
		return nil, nil, err
	}
	u.Path, u.RawPath = u.EscapedPath(), "" // an encoded slash does not end a segment
	return d.router.FindRoute(&http.Request{Method: method, URL: u, Header: http.Header{}})
}

// Check fails the test where the answer to the method and path (with or without
// a query) is not one that the document allows.
func (d *Document) Check(tb testing.TB, method, path string, resp *http.Response, body []byte) {
	tb.Helper()
	route, params, err := d.find(method, path)
	if err != nil {
		tb.Errorf("%s %s is not in the document: %v", method, path, err)
		return
	}
	err = openapi3filter.ValidateResponse(tb.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: resp.Request, PathParams: params, Route: route,
		},
		Status: resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	})
	if err != nil {
		// The body may hold a credential: it is not repeated here.
		tb.Errorf("%s %s answers %d with what the document does not allow: %v", method, path, resp.StatusCode, err)
	}
}
