package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"

	"bindery/devserver"
)

// An httpClient sends bare requests: those of servers whose answers take so long
// that the client of net/http does not matter.
type httpClient struct {
	transport *http.Transport
	authorize func(*http.Request)
}

func newHTTPClient(clients int, authorize func(*http.Request)) *httpClient {
	return &httpClient{&http.Transport{MaxConnsPerHost: clients, MaxIdleConnsPerHost: clients}, authorize}
}

func (c *httpClient) close() {
	if c != nil {
		c.transport.CloseIdleConnections()
	}
}

// call sends a body as JSON, and checks that the answer is a success.
func (c *httpClient) call(ctx context.Context, method, url string, body any) ([]byte, error) {
	var content io.Reader = http.NoBody
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	c.authorize(request)
	answer, err := c.transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // read to its end, or given up
	said, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s: %s", method, answer.Status, bytes.TrimSpace(said))
	}
	return said, err
}

// bareRabbitMQ makes users by the management API, with their permissions.
type bareRabbitMQ struct {
	server *devserver.RabbitMQ
	client *httpClient
}

func (*bareRabbitMQ) name() string { return "PUT user and permissions, DELETE user" }

func (r *bareRabbitMQ) connect(ctx context.Context, clients int) error {
	r.client = newHTTPClient(clients, func(request *http.Request) {
		request.SetBasicAuth(r.server.User, r.server.Password.Reveal())
	})
	return r.put(ctx, "/api/vhosts/bare", map[string]string{})
}

func (r *bareRabbitMQ) disconnect() { r.client.close() }

func (r *bareRabbitMQ) put(ctx context.Context, path string, body any) error {
	_, err := r.client.call(ctx, http.MethodPut, r.server.URL()+path, body)
	return err
}

func (r *bareRabbitMQ) create(ctx context.Context, _ int, serial int64) error {
	var salt [4]byte
	_, _ = rand.Read(salt[:]) // never fails
	sum := sha256.Sum256(append(salt[:], newPassword()...))
	if err := r.put(ctx, "/api/users/"+bareUser(serial), map[string]string{
		"password_hash": base64.StdEncoding.EncodeToString(append(salt[:], sum[:]...)), "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": "",
	}); err != nil {
		return err
	}
	return r.put(ctx, "/api/permissions/bare/"+bareUser(serial), map[string]string{"configure": ".*", "write": ".*", "read": ".*"})
}

func (r *bareRabbitMQ) remove(ctx context.Context, _ int, serial int64) error {
	_, err := r.client.call(ctx, http.MethodDelete, r.server.URL()+"/api/users/"+bareUser(serial), nil)
	return err
}

// bareOAuth registers clients, and deletes them.
type bareOAuth struct {
	server *devserver.OIDC
	client *httpClient
	made   sync.Map // of serials to registrations
}

// A registration is what the server says of where a client is managed (RFC 7591, section 3.2.1).
type registration struct {
	URI   string `json:"registration_client_uri"`
	Token string `json:"registration_access_token"`
}

type bearerKey struct{}

func (*bareOAuth) name() string { return "POST of RFC 7591, DELETE of RFC 7592" }

func (o *bareOAuth) connect(_ context.Context, clients int) error {
	o.client = newHTTPClient(clients, func(request *http.Request) {
		token, _ := request.Context().Value(bearerKey{}).(string)
		request.Header.Set("Authorization", "Bearer "+token)
	})
	return nil
}

func (o *bareOAuth) disconnect() { o.client.close() }

func (o *bareOAuth) create(ctx context.Context, _ int, serial int64) error {
	ctx = context.WithValue(ctx, bearerKey{}, o.server.InitialToken.Reveal())
	said, err := o.client.call(ctx, http.MethodPost, o.server.Issuer+"/reg", map[string]any{
		"client_name": bareUser(serial), "software_id": "bare", "grant_types": []string{"client_credentials"},
		"token_endpoint_auth_method": "client_secret_basic", "redirect_uris": []string{}, "response_types": []string{},
	})
	var r registration
	if err == nil {
		err = json.Unmarshal(said, &r)
	}
	o.made.Store(serial, r)
	return err
}

func (o *bareOAuth) remove(ctx context.Context, _ int, serial int64) error {
	made, _ := o.made.LoadAndDelete(serial)
	r, _ := made.(registration)
	_, err := o.client.call(context.WithValue(ctx, bearerKey{}, r.Token), http.MethodDelete, r.URI, nil)
	return err
}
