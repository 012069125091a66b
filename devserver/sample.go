package devserver

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bindery"
)

// SampleOptions say how a sample service is started.
type SampleOptions struct {
	Addr string // host:port; empty: any port of 127.0.0.1
	Cert CertFiles
	// Key is what callers must send as ?key=; a user's token is derived from it.
	Key bindery.Secret
}

// A Sample is a service that gives out its users' tokens, as a messaging service
// does: GET /v1/users:byUUID/{user}?key=… answers {"token": …}.
type Sample struct {
	// Host and Port are where it answers, over TLS.
	Host string
	Port int

	key    bindery.Secret
	server *http.Server
	socket net.Listener
}

// StartSample starts one, in this process. Serve answers.
func StartSample(ctx context.Context, o SampleOptions) (*Sample, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, err
	}
	s := &Sample{Host: "localhost", Port: l.Addr().(*net.TCPAddr).Port, key: o.Key, socket: l}
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.server.ServeTLS(l, o.Cert.CertFile, o.Cert.KeyFile) }() // until Close
	return s, nil
}

// Close ends it.
func (s *Sample) Close() error { return s.server.Close() }

// Token is what the user's token is.
func (s *Sample) Token(user string) string {
	m := hmac.New(sha256.New, []byte(s.key.Reveal()))
	_, _ = m.Write([]byte(user)) // never fails
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// ServeHTTP answers one request.
func (s *Sample) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	escaped, ok := strings.CutPrefix(r.URL.EscapedPath(), "/v1/users:byUUID/")
	user, err := url.PathUnescape(escaped)
	w.Header().Set("Content-Type", "application/json")
	switch {
	case !ok || err != nil || user == "" || r.Method != http.MethodGet:
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"error":"there is nothing here"}`))
	case subtle.ConstantTimeCompare([]byte(r.URL.Query().Get("key")), []byte(s.key.Reveal())) == 0:
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"error":"the key is wrong"}`))
	default:
		answer, err := json.Marshal(map[string]string{"uuid": user, "token": s.Token(user)})
		if err != nil {
			panic(errors.New("strings do not encode")) // cannot happen
		}
		_, _ = w.Write(answer) // who hung up does not get it
	}
}
