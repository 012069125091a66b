package devserver

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-jose/go-jose/v4"

	"bindery"
)

//go:embed oidc/server.mjs
var oidcServer []byte

// The grant of oidc/server.mjs that gives out a token about anybody.
const anybodyGrant = "urn:bindery:grant-type:anybody"

const (
	oldestNode    = "18.20.4" // Debian 12's
	oidcBodyLimit = 1 << 20
)

// OIDCOptions say how to start an OpenID provider.
type OIDCOptions struct {
	// Dir is where all files are. It is created; a provider that was there before is continued.
	Dir string
	// Modules is the directory with node_modules, as scripts/install-servers --test makes
	// it; empty means the one that BINDERY_OIDC_MODULES names.
	Modules string
	// Port is the port on 127.0.0.1; 0 means the one used in Dir before, else any that is free.
	Port int
	// TLS, where it is set, makes the provider speak TLS, and nothing else.
	TLS *CertFiles
	// Front, where it is set, is told the provider's host and port before each first start,
	// and returns the one that clients use: that of a [Proxy]. The issuer is named after it.
	Front func(addr string) (string, error)
}

// An OIDC is a private OpenID provider: npm's oidc-provider. It has the client
// credentials grant (with a resource indicator, RFC 8707, the access token is a
// JWT), dynamic registration of clients (RFC 7591, RFC 7592), revocation and
// introspection. Clients that were registered outlive its restart.
type OIDC struct {
	*Process
	Host         string // 127.0.0.1
	Port         int
	Addr         string         // Host and Port
	Issuer       string         // the URL
	CAFile       string         // what its certificate is checked against; empty without TLS
	ClientID     string         // a client that is always there
	ClientSecret bindery.Secret // of ClientID
	// InitialToken is the initial access token that registration of a client asks for.
	InitialToken bindery.Secret

	base   string // the URL that leads past [OIDCOptions.Front]
	client *http.Client
}

// oidcState is what the next start in the same directory needs to know.
type oidcState struct {
	Port         int    `json:"port"`
	ClientSecret string `json:"client_secret"`
	InitialToken string `json:"initial_access_token"`
}

// oidcConfig is what oidc/server.mjs reads.
type oidcConfig struct {
	oidcState
	Issuer   string     `json:"issuer"`
	ClientID string     `json:"client_id"`
	TLS      *CertFiles `json:"tls,omitempty"`
}

// StartOIDC starts an OpenID provider and returns when it answers. What holds of
// [StartRedis] about leftovers and the context holds here too.
func StartOIDC(ctx context.Context, o OIDCOptions) (*OIDC, error) {
	node, err := findNode(ctx)
	if err != nil {
		return nil, err
	}
	o.Modules = cmp.Or(o.Modules, os.Getenv("BINDERY_OIDC_MODULES"))
	if _, err := os.Stat(filepath.Join(o.Modules, "node_modules", "oidc-provider", "package.json")); o.Modules == "" || err != nil {
		return nil, fmt.Errorf("npm's oidc-provider: %w", ErrMissing)
	}
	modules, err := filepath.Abs(filepath.Join(o.Modules, "node_modules"))
	if err != nil {
		return nil, err
	}
	dir, err := makeDir(o.Dir)
	if err != nil {
		return nil, err
	}
	p := &OIDC{Host: "127.0.0.1", ClientID: "bindery", client: &http.Client{Timeout: 10 * time.Second}}
	if o.TLS != nil {
		p.CAFile = o.TLS.CAFile
		if p.client.Transport, err = trusting(p.CAFile); err != nil {
			return nil, err
		}
	}
	p.Process = &Process{
		dir: dir, workDir: dir,
		death: syscall.SIGKILL, quit: syscall.SIGTERM,
		arguments: []string{"./server.mjs"},
		configure: func() error { return nil },
		login:     p.look,
		discard:   func() error { p.client.CloseIdleConnections(); returnPort(p.Port); return nil },
	}
	if err := p.use(node); err != nil {
		return nil, err
	}
	if err := p.own(); err != nil {
		return nil, err
	}
	if err := p.first(ctx, o, modules); err != nil {
		return nil, errors.Join(err, p.disown())
	}
	return p, nil
}

func findNode(ctx context.Context) (string, error) {
	program, err := exec.LookPath("node")
	if err != nil {
		return "", fmt.Errorf("node: %w", ErrMissing)
	}
	out, err := exec.CommandContext(ctx, program, "--version").Output() //nolint:gosec // the program that PATH names
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", program, err)
	}
	if v := strings.TrimPrefix(strings.TrimSpace(string(out)), "v"); compareVersions(v, oldestNode) < 0 {
		return "", fmt.Errorf("%s is version %s, and %s is needed: %w", program, v, oldestNode, ErrMissing)
	}
	return program, nil
}

// trusting returns a transport that trusts the authorities in a file.
func trusting(caFile string) (*http.Transport, error) {
	b, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, errors.New("no certificate in " + caFile)
	}
	return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}, nil
}

// first starts the provider for the first time in this process.
func (p *OIDC) first(ctx context.Context, o OIDCOptions, modules string) error {
	// Before the port is chosen: a provider left behind would be in its own way.
	if err := p.killAll(); err != nil {
		return err
	}
	st := oidcState{ClientSecret: rand.Text(), InitialToken: rand.Text()}
	if err := loadState(p.dir, &st); err != nil {
		return err
	}
	p.ClientSecret, p.InitialToken = bindery.NewSecret(st.ClientSecret), bindery.NewSecret(st.InitialToken)
	link := filepath.Join(p.dir, "node_modules")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(modules, link); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(p.dir, "server.mjs"), oidcServer); err != nil {
		return err
	}
	if _, err := os.Stat(p.keyFile()); errors.Is(err, os.ErrNotExist) {
		if err := p.writeKeys(); err != nil {
			return err
		}
	}
	return p.startOnPort(ctx, o.Port, st.Port, func(port int) error {
		st.Port = port
		p.Port, p.Addr = port, loopback(port)
		front, scheme := p.Addr, "http"
		if o.Front != nil {
			var err error
			if front, err = o.Front(p.Addr); err != nil {
				return err
			}
		}
		if o.TLS != nil {
			scheme = "https"
		}
		p.Issuer, p.base = scheme+"://"+front, scheme+"://"+p.Addr
		config, err := json.Marshal(oidcConfig{oidcState: st, Issuer: p.Issuer, ClientID: p.ClientID, TLS: o.TLS})
		if err != nil {
			return err
		}
		return errors.Join(saveState(p.dir, st), writeFile(filepath.Join(p.dir, "config.json"), config))
	})
}

func (p *OIDC) keyFile() string { return filepath.Join(p.dir, "jwks.json") }

// writeKeys makes new signing keys, one of each kind, and keeps some beside them.
func (p *OIDC) writeKeys(keep ...jose.JSONWebKey) error {
	set := jose.JSONWebKeySet{}
	add := func(key crypto.Signer, err error) error {
		if err != nil {
			return err
		}
		jwk := jose.JSONWebKey{Key: key, Use: "sig"}
		id, err := jwk.Thumbprint(crypto.SHA256)
		if err != nil {
			return err
		}
		jwk.KeyID = base64.RawURLEncoding.EncodeToString(id)
		set.Keys = append(set.Keys, jwk)
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	err = add(key, err)
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, failed := ecdsa.GenerateKey(curve, rand.Reader)
		err = errors.Join(err, add(key, failed))
	}
	_, edwards, failed := ed25519.GenerateKey(rand.Reader)
	if err = errors.Join(err, add(edwards, failed)); err != nil {
		return err
	}
	set.Keys = append(set.Keys, keep...)
	b, err := json.Marshal(set)
	if err != nil {
		return err
	}
	return writeFile(p.keyFile(), b)
}

func (p *OIDC) keys() (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	b, err := os.ReadFile(p.keyFile())
	if err != nil {
		return set, err
	}
	return set, json.Unmarshal(b, &set)
}

// Rotate gives the provider new signing keys, and returns when it publishes them.
// Where the old ones are kept, it goes on publishing them as well. A provider that
// does not run has them from its next start on.
func (p *OIDC) Rotate(ctx context.Context, keepOld bool) error {
	p.busy.Lock()
	defer p.busy.Unlock()
	var keep []jose.JSONWebKey
	if keepOld {
		old, err := p.keys()
		if err != nil {
			return err
		}
		keep = old.Keys
	}
	if err := p.writeKeys(keep...); err != nil {
		return err
	}
	if !p.running() {
		return nil
	}
	if err := p.leader().Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return p.waitReady(ctx)
}

// look asks for the provider's metadata and keys once: they must be those in the directory.
func (p *OIDC) look(ctx context.Context) error {
	var meta struct {
		Issuer string `json:"issuer"`
	}
	if err := p.get(ctx, p.base+"/.well-known/openid-configuration", &meta); err != nil {
		return err
	}
	if meta.Issuer != p.Issuer {
		return fmt.Errorf("it is the issuer %q", meta.Issuer)
	}
	want, err := p.keys()
	if err != nil {
		return err
	}
	var got jose.JSONWebKeySet
	if err := p.get(ctx, p.base+"/jwks", &got); err != nil {
		return err
	}
	if len(got.Keys) != len(want.Keys) || got.Keys[0].KeyID != want.Keys[0].KeyID {
		return fmt.Errorf("%w: it has other keys", errNotYet)
	}
	return nil
}

func (p *OIDC) get(ctx context.Context, target string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return err
	}
	var refused *url.Error
	if err := p.do(req, into); errors.As(err, &refused) {
		return fmt.Errorf("%w: %w", errNotYet, err)
	} else if err != nil {
		return err
	}
	return nil
}

func (p *OIDC) do(req *http.Request, into any) error {
	res, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read to its end, or given up
	b, err := io.ReadAll(io.LimitReader(res.Body, oidcBodyLimit))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", res.Status, bytes.TrimSpace(b))
	}
	return json.Unmarshal(b, into)
}

// An OIDCToken says what is to stand in a token.
type OIDCToken struct {
	Subject string
	Claims  map[string]any // besides the standard's own
	// Audience is the access token's; empty means the client. The ID token's is always the client.
	Audience string
	Lifetime time.Duration // 0: an hour
	// Algorithm signs the access token; empty means RS256, which always signs the ID token.
	Algorithm string
	// Logout asks for a logout token in place of the ID token.
	Logout bool
}

// Token returns an access token (a JWT as in RFC 9068) and an ID token about anybody.
func (p *OIDC) Token(ctx context.Context, o OIDCToken) (access, id string, err error) {
	form := url.Values{"grant_type": {anybodyGrant}, "subject": {o.Subject}}
	if o.Claims != nil {
		b, err := json.Marshal(o.Claims)
		if err != nil {
			return "", "", err
		}
		form.Set("claims", string(b))
	}
	if o.Audience != "" {
		form.Set("audience", o.Audience)
	}
	if o.Lifetime != 0 {
		form.Set("lifetime", strconv.Itoa(int(o.Lifetime/time.Second)))
	}
	if o.Algorithm != "" {
		form.Set("alg", o.Algorithm)
	}
	if o.Logout {
		form.Set("use", "logout")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+"/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(p.ClientID, p.ClientSecret.Reveal())
	var got struct {
		AccessToken string `json:"access_token"`
		IDToken     string `json:"id_token"`
	}
	err = p.do(req, &got)
	return got.AccessToken, got.IDToken, err
}
