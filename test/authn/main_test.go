// Package authn tests the identity face from outside: a running bindery, real
// TLS, real certificates, services and OpenID provider. What that API's first
// implementation got wrong has a test here each.
package authn

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/seal"
	"bindery/test/poll"
)

var program string

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "authn:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "bindery-authn-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // nothing depends on it
	program = filepath.Join(dir, "bindery")
	if out, err := exec.Command("go", "build", "-o", program, "bindery/cmd/bindery").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// TestTheResultIsOfTheseSources reads the folders of the source tree, because go
// test keeps results and does not see what a child process reads.
func TestTheResultIsOfTheseSources(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir("../..", func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() && path != "../.." && (strings.HasPrefix(e.Name(), ".") || e.Name() == "bin") {
			return filepath.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// adminKey is the key of every world.
const adminKey = "the-key-of-the-administrator"

// A world is a running bindery that serves the identity face alone.
type world struct {
	*testing.T
	dir     string
	url     string
	metrics string
	pki     *devserver.PKI
	server  devserver.CertFiles // for services, of the authority that bindery trusts
	roots   *x509.CertPool
	admin   *http.Client
	cmd     *exec.Cmd
	exited  chan struct{}
}

// start starts one. identity is what its section has besides keys and trust.
func start(t *testing.T, identity string) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir(), exited: make(chan struct{}), roots: x509.NewCertPool()}
	var err error
	w.pki, err = devserver.OpenPKI(filepath.Join(w.dir, "pki"), time.Now)
	w.must(err)
	w.server, err = w.pki.Server()
	w.must(err)
	pem, err := os.ReadFile(w.server.CAFile)
	w.must(err)
	w.roots.AppendCertsFromPEM(pem)
	w.must(os.Mkdir(filepath.Join(w.dir, "trust"), 0o700))
	w.must(os.WriteFile(filepath.Join(w.dir, "trust", "ca.pem"), pem, 0o600))
	for name, content := range map[string]string{
		"seal-key": seal.NewKey().Reveal(), "key": adminKey,
		"bindery.yaml": fmt.Sprintf(`store: {url: "sqlite:bindery.db"}
seal: {key: {file: seal-key}}
listeners:
  - address: 127.0.0.1:0
    faces: [authn]
    tls: {cert_file: %q, key_file: %q}
metrics: {address: "127.0.0.1:0"}
identity:
  keys: [{name: test, key: {file: key}}]
  failed_proofs: {off: true}
  types:
    - {name: ams, ca_file: %q, timeout: 1s}
    - {name: web-api, ca_file: %q, timeout: 1s}
%s`, w.server.CertFile, w.server.KeyFile, w.server.CAFile, w.server.CAFile, identity),
	} {
		w.must(os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o600))
	}
	w.admin = w.client()
	w.launch()
	t.Cleanup(w.stop)
	return w
}

// trusted is the section of a world that trusts its own authority.
const trusted = "  certificates: {trust_dir: trust}\n"

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) logFile() string { return filepath.Join(w.dir, "log") }

func (w *world) log() string {
	b, err := os.ReadFile(w.logFile())
	w.must(err)
	return string(b)
}

func (w *world) launch() {
	w.Helper()
	f, err := os.Create(w.logFile())
	w.must(err)
	defer func() { _ = f.Close() }() // the process has its own copy
	w.cmd = exec.Command(program, "serve", "-c", filepath.Join(w.dir, "bindery.yaml"))
	w.cmd.Stderr = f
	w.must(w.cmd.Start())
	go func() { _ = w.cmd.Wait(); close(w.exited) }() // the log says why
	poll.Until(w, "bindery started", func() bool {
		started := false
		for line := range strings.Lines(w.log()) {
			var l struct{ Msg, Serves, URL string }
			if json.Unmarshal([]byte(line), &l) != nil {
				continue // half a line, so far
			}
			switch {
			case l.Msg == "listening" && l.Serves == "metrics":
				w.metrics = l.URL
			case l.Msg == "listening":
				w.url = l.URL
			}
			started = started || l.Msg == "started"
		}
		select {
		case <-w.exited:
			w.Fatalf("bindery ended: %s", w.log())
		default:
		}
		return started
	})
}

func (w *world) stop() {
	_ = w.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-w.exited:
	case <-time.After(time.Minute):
		_ = w.cmd.Process.Kill() // likewise
		w.Error("bindery did not stop within a minute")
	}
	if log := w.log(); strings.Contains(log, `"panic`) || strings.Contains(log, "goroutine ") {
		w.Errorf("bindery panicked: %s", log)
	}
}

// client makes an HTTP client, with a certificate or without.
func (w *world) client(own ...tls.Certificate) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 100,
		TLSClientConfig:     &tls.Config{RootCAs: w.roots, Certificates: own, MinVersion: tls.VersionTLS12},
	}}
}

// workload makes a client with a certificate of this name.
func (w *world) workload(name string) *http.Client {
	w.Helper()
	files, err := w.pki.Client(name)
	w.must(err)
	pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
	w.must(err)
	return w.client(pair)
}

// call sends a request as the administrator, and expects a status.
func (w *world) call(method, path, body string, want int) map[string]any {
	w.Helper()
	status, raw := w.send(w.admin, method, path, body, http.Header{"X-Api-Key": {adminKey}})
	if status != want {
		w.Fatalf("%s %s: got %d %s, want %d", method, path, status, raw, want)
	}
	var out map[string]any
	if len(raw) > 0 {
		w.must(json.Unmarshal(raw, &out))
	}
	return out
}

func (w *world) send(c *http.Client, method, path, body string, header http.Header) (int, []byte) {
	w.Helper()
	r, err := http.NewRequestWithContext(w.Context(), method, w.url+path, strings.NewReader(body))
	w.must(err)
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := c.Do(r)
	w.must(err)
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	w.must(err)
	return resp.StatusCode, raw
}

// token asks for one.
func (w *world) token(c *http.Client, service, host string) (int, string) {
	w.Helper()
	status, raw := w.send(c, http.MethodGet, "/v1/service-types/"+service+"/hosts/"+host+":authx509", "", nil)
	var out struct {
		Token any
		Error struct{ Message string }
	}
	w.must(json.Unmarshal(raw, &out))
	if status == http.StatusOK {
		return status, fmt.Sprint(out.Token)
	}
	return status, out.Error.Message
}

// message is the text of an error's envelope.
func message(raw []byte) string {
	var out struct{ Error struct{ Message string } }
	_ = json.Unmarshal(raw, &out) // what is none has no message
	return out.Error.Message
}

// serviceOf makes a service type of one host, with its auth method, that calls this server.
func (w *world) serviceOf(name, kind, method, host string, port int, secret string) (uuid string) {
	w.Helper()
	out := w.call(http.MethodPost, "/v1/service-types", fmt.Sprintf(
		`{"name":%q,"hosts":[%q],"auth_types":["x509"],"auth_method":%q,"type":%q}`, name, host, method, kind), http.StatusCreated)
	w.call(http.MethodPost, "/v1/service-types/"+url.PathEscape(name)+"/authm", fmt.Sprintf(
		`{"host":%q,"port":%d,%s}`, host, port, secret), http.StatusCreated)
	return out["uuid"].(string)
}

func bindingBody(service, host, identifier, user string) string {
	b, err := json.Marshal(map[string]string{
		"service_uuid": service, "host": host, "auth_type": "x509", "auth_identifier": identifier, "unique_key": user,
	})
	if err != nil {
		panic(err) // strings encode
	}
	return string(b)
}

// sample starts a service that gives out tokens.
func (w *world) sample(key string) *devserver.Sample {
	w.Helper()
	s, err := devserver.StartSample(w.Context(), devserver.SampleOptions{Cert: w.server, Key: bindery.NewSecret(key)})
	w.must(err)
	w.Cleanup(func() { w.must(s.Close()) })
	return s
}

// count counts what a body has of a text.
func count(raw []byte, text string) int { return bytes.Count(raw, []byte(text)) }
