package oauth_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// parallel is how many binds a platform has under way.
const parallel = 8

// each runs a call at parallel callers until the benchmark is over.
func each(b *testing.B, call func(n int64) error) {
	b.Helper()
	var n atomic.Int64
	b.SetParallelism(parallel / 2) // times the processors, of which two are the least
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := call(n.Add(1)); err != nil {
				b.Error(err)
			}
		}
	})
}

// bare sends a request as any tool would, and returns the answer.
func bare(b *testing.B, p *devserver.OIDC) func(method, target, bearer string, body any) ([]byte, error) {
	b.Helper()
	config, err := (&bindery.ServerTLS{CAFile: p.CAFile}).Config("127.0.0.1")
	must(b, err)
	config.MinVersion = tls.VersionTLS12
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, MaxConnsPerHost: parallel, MaxIdleConnsPerHost: parallel}}
	b.Cleanup(client.CloseIdleConnections)
	return func(method, target, bearer string, body any) ([]byte, error) {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		req, err := http.NewRequestWithContext(context.Background(), method, target, bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+bearer)
		res, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer func() { _ = res.Body.Close() }()
		got, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode/100 != 2 {
			err = fmt.Errorf("%s: %s", res.Status, got)
		}
		return got, err
	}
}

// oneClient is what a tool would register.
func oneClient(n int64) map[string]any {
	return map[string]any{
		"client_name": fmt.Sprint("c", n), "grant_types": []string{"client_credentials"}, "redirect_uris": []string{},
		"response_types": []string{}, "token_endpoint_auth_method": "client_secret_basic", "scope": "read write",
	}
}

// BenchmarkEnsure measures new clients beside the one request that they need.
func BenchmarkEnsure(b *testing.B) {
	b.Run("driver", func(b *testing.B) {
		l := newLab(b, servertest.OIDC(b), scoped, func(s *bindery.Server) { s.Timeout = time.Minute })
		each(b, func(n int64) error {
			a := bindery.Account{Name: bindery.Name(l.installation, n+1)}
			var err error
			if a.Material, err = l.Prepare(l.spec, bindery.AccountRequest{Name: a.Name}); err != nil {
				return err
			}
			_, err = l.Ensure(context.Background(), l.spec, a)
			return err
		})
	})
	b.Run("bare", func(b *testing.B) {
		p := servertest.OIDC(b)
		send := bare(b, p)
		each(b, func(n int64) error {
			_, err := send(http.MethodPost, p.Issuer+"/reg", p.InitialToken.Reveal(), oneClient(n))
			return err
		})
	})
}

// BenchmarkRevoke measures removals beside the one request that they need.
func BenchmarkRevoke(b *testing.B) {
	b.Run("driver", func(b *testing.B) {
		l := newLab(b, servertest.OIDC(b), scoped, func(s *bindery.Server) { s.Timeout = time.Minute })
		accounts := make([]bindery.Account, b.N)
		for i := range accounts {
			accounts[i] = l.made(l.prepare(``))
		}
		each(b, func(n int64) error { return l.Revoke(context.Background(), l.spec, accounts[n-1]) })
	})
	b.Run("bare", func(b *testing.B) {
		p := servertest.OIDC(b)
		send := bare(b, p)
		type made struct {
			URI   string `json:"registration_client_uri"`
			Token string `json:"registration_access_token"`
		}
		clients := make([]made, b.N)
		for i := range clients {
			raw, err := send(http.MethodPost, p.Issuer+"/reg", p.InitialToken.Reveal(), oneClient(int64(i)))
			must(b, err)
			must(b, json.Unmarshal(raw, &clients[i]))
		}
		each(b, func(n int64) error {
			_, err := send(http.MethodDelete, clients[n-1].URI, clients[n-1].Token, map[string]any{})
			return err
		})
	})
}
