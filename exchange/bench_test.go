package exchange_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"bindery/exchange"
)

func bareToken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"uuid":"uid-1","name":"alice","projects":[],"token":"0123456789abcdef0123456789abcdef","email":"a@example.org"}`)
}

// BenchmarkToken is one authentication, each caller with a binding of its own,
// beside the bare call of the service that it makes, and beside the cache.
func BenchmarkToken(b *testing.B) {
	for _, cached := range []bool{false, true} {
		b.Run(fmt.Sprintf("cache=%t", cached), func(b *testing.B) {
			w, u, alice := bound(b, bareToken, func(o *exchange.Options) {
				o.Observe = nil
				if cached {
					o.Types[0].CacheTokens = time.Hour
				}
			})
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Token(context.Background(), alice, "ams1", u.host); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("bare", func(b *testing.B) {
		u := newUpstream(b, bareToken)
		pem, err := os.ReadFile(caFile(b))
		if err != nil {
			b.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
		url := "https://" + net.JoinHostPort(u.host, fmt.Sprint(u.port)) + "/v1/users:byUUID/uid-1?key=" + accessKey
		b.ReportAllocs()
		for b.Loop() {
			a, err := client.Get(url)
			if err != nil {
				b.Fatal(err)
			}
			body, err := io.ReadAll(a.Body)
			_ = a.Body.Close()
			var token struct {
				Token json.RawMessage `json:"token"`
			}
			if err != nil || json.Unmarshal(body, &token) != nil {
				b.Fatal(err)
			}
		}
	})
}
