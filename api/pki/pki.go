// Package pki is the face that publishes what certificate authorities say of
// their certificates: below /pki/{server}, the authority's certificate (RFC 5280,
// section 4.2.2.1), its revocation list (section 4.2.1.13) and OCSP (RFC 6960, appendix A).
//
// Everybody may ask, in clear: all of it is signed, and a verifier that had to verify a
// certificate first would never begin. So nothing that a caller sends costs
// more than a bounded piece of work.
package pki

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/crypto/ocsp"

	"bindery"
	"bindery/api"
)

// A Handler serves what publishers publish.
type Handler struct {
	// Publisher finds the one of a server.
	Publisher func(server string) (bindery.Publisher, bool)
}

const (
	segment = "pki"
	// maxRequest bounds an OCSP request; one has about 100 bytes.
	maxRequest = 64 << 10
	// A list and an answer are asked for again after a second: they are to be fresh.
	cacheList = "public, max-age=1, must-revalidate"
	cacheCert = "public, max-age=3600"

	typeCert     = "application/pkix-cert"                  // RFC 2585
	typeList     = "application/pkix-crl"                   // RFC 2585
	typeChain    = "application/pem-certificate-chain"      // RFC 8555
	typePEM      = "application/x-pem-file"                 // of a list; nothing is registered
	typeRequest  = "application/ocsp-request"               // RFC 6960
	typeResponse = "application/ocsp-response"              // RFC 6960
	ocspRoute    = "/" + segment + "/{server}/ocsp/{query}" // of a request in the path
)

// Face is /pki.
func (h *Handler) Face() api.Face {
	rt := api.NewRouter(
		api.Route{Method: http.MethodGet, Pattern: "/" + segment + "/{server}/ca.crt", Serve: h.certificate},
		api.Route{Method: http.MethodGet, Pattern: "/" + segment + "/{server}/ca.pem", Serve: h.chain},
		api.Route{Method: http.MethodGet, Pattern: "/" + segment + "/{server}/ca.crl", Serve: h.list},
		api.Route{Method: http.MethodGet, Pattern: "/" + segment + "/{server}/crl.pem", Serve: h.listPEM},
		api.Route{Method: http.MethodPost, Pattern: "/" + segment + "/{server}/ocsp", Serve: h.ask},
	)
	return api.Face{Name: segment, Segment: segment, Serve: func(c *api.Call) error {
		if server, query, ok := inPath(c.R); ok {
			c.Route = ocspRoute
			return h.askInPath(c, server, query)
		}
		return rt.Serve(c)
	}}
}

func (h *Handler) publisher(server string) (bindery.Publisher, error) {
	p, ok := h.Publisher(server)
	if !ok {
		return nil, bindery.Errorf(bindery.CodeNotFound, "there is no such authority")
	}
	return p, nil
}

// certificate is the authority's own certificate, DER.
func (h *Handler) certificate(c *api.Call) error {
	chain, err := h.chainOf(c)
	if err != nil {
		return err
	}
	first, _ := pem.Decode(chain)
	if first == nil {
		return bindery.Errorf(bindery.CodeInternal, "the authority has no certificate")
	}
	return answer(c, typeCert, cacheCert, first.Bytes)
}

func (h *Handler) chain(c *api.Call) error {
	chain, err := h.chainOf(c)
	if err != nil {
		return err
	}
	return answer(c, typeChain, cacheCert, chain)
}

func (h *Handler) chainOf(c *api.Call) ([]byte, error) {
	p, err := h.publisher(c.Param("server"))
	if err != nil {
		return nil, err
	}
	return p.Chain(c.R.Context())
}

func (h *Handler) list(c *api.Call) error {
	der, err := h.listOf(c)
	if err != nil {
		return err
	}
	return answer(c, typeList, cacheList, der)
}

// listPEM is the list as nginx and others read it from a file.
func (h *Handler) listPEM(c *api.Call) error {
	der, err := h.listOf(c)
	if err != nil {
		return err
	}
	return answer(c, typePEM, cacheList, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

func (h *Handler) listOf(c *api.Call) ([]byte, error) {
	p, err := h.publisher(c.Param("server"))
	if err != nil {
		return nil, err
	}
	der, signed, err := p.CRL(c.R.Context())
	if err != nil {
		return nil, err
	}
	c.Header()["Last-Modified"] = []string{signed.UTC().Format(http.TimeFormat)}
	return der, nil
}

// answer answers 304 to who has the same body, which only the entity tag tells:
// there can be two lists in one second, and Last-Modified knows no less (RFC 9110, section 8.8.2.2).
func answer(c *api.Call, contentType, cache string, body []byte) error {
	sum := sha256.Sum256(body)
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	c.Header()["Etag"] = []string{tag}
	c.Header()["Cache-Control"] = []string{cache}
	for part := range strings.SplitSeq(c.R.Header.Get("If-None-Match"), ",") {
		part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
		if part == tag || part == "*" {
			c.Raw(http.StatusNotModified, "", nil)
			return nil
		}
	}
	c.Raw(http.StatusOK, contentType, body)
	return nil
}

// ask answers a request in the body.
func (h *Handler) ask(c *api.Call) error {
	p, err := h.publisher(c.Param("server"))
	if err != nil {
		return err
	}
	if t, _, _ := strings.Cut(c.R.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(t), typeRequest) {
		return &api.Refusal{Status: http.StatusUnsupportedMediaType, Message: "the content type must be " + typeRequest}
	}
	tooLarge := bindery.Errorf(bindery.CodeTooLarge, "a request has at most %d bytes", maxRequest)
	if c.R.ContentLength > maxRequest {
		c.Header().Set("Connection", "close") // rather than read it all to reach the next request
		return tooLarge
	}
	c.R.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(c.R.Body, maxRequest+1), c.R.Body}
	body, err := c.Body()
	if err != nil {
		return err
	}
	if len(body) > maxRequest {
		return tooLarge
	}
	return respond(c, p, body, "no-store")
}

// inPath finds a request in the path: base64, with its slashes escaped or, as some clients have it, not.
func inPath(r *http.Request) (server, query string, ok bool) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "", "", false
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/"+segment+"/")
	if !ok {
		return "", "", false
	}
	server, query, ok = strings.Cut(rest, "/ocsp/")
	if !ok || strings.Contains(server, "/") {
		return "", "", false
	}
	server, err := url.PathUnescape(server)
	return server, query, err == nil
}

func (h *Handler) askInPath(c *api.Call, server, query string) error {
	p, err := h.publisher(server)
	if err != nil {
		return err
	}
	var request []byte
	if text, err := url.PathUnescape(query); err == nil {
		// What cannot be decoded is no request, and is answered as that.
		request, _ = base64.StdEncoding.DecodeString(text)
	}
	return respond(c, p, request, cacheList)
}

// respond answers in OCSP's own terms, also where something is wrong: clients look at nothing else.
func respond(c *api.Call, p bindery.Publisher, request []byte, cache string) error {
	body, err := p.OCSP(c.R.Context(), request)
	switch bindery.CodeOf(err) {
	case "":
	case bindery.CodeInvalid:
		c.Failed(err)
		body, cache = ocsp.MalformedRequestErrorResponse, "no-store"
	case bindery.CodeUnavailable, bindery.CodeTimeout:
		c.Failed(err)
		body, cache = ocsp.TryLaterErrorResponse, "no-store"
	default:
		c.Failed(err)
		body, cache = ocsp.InternalErrorErrorResponse, "no-store"
	}
	if len(body) < 10 { // an error, unsigned: it is of the moment
		cache = "no-store"
	} else if got, err := ocsp.ParseResponse(body, nil); err == nil {
		c.Header()["Last-Modified"] = []string{got.ThisUpdate.UTC().Format(http.TimeFormat)}
	}
	c.Header()["Cache-Control"] = []string{cache}
	c.Raw(http.StatusOK, typeResponse, body)
	return nil
}
