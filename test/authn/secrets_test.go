package authn

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// spellings are how a secret may look somewhere.
func spellings(secret string) []string {
	return []string{
		secret, url.QueryEscape(secret), hex.EncodeToString([]byte(secret)),
		// In base64 the end of a text depends on what follows; what is sure are whole groups of three.
		base64.StdEncoding.EncodeToString([]byte(secret[:len(secret)/3*3])),
	}
}

// What a caller, a service or an administrator keeps secret is in no file that
// bindery writes, in no metric, in no error.
func TestNoSecretAnywhere(t *testing.T) {
	t.Parallel()
	w := start(t, trusted)
	const accessKey, header = "access key/with+odd=characters", "header value with spaces 0123456789"
	sample := w.sample(accessKey)
	secrets := map[string]string{
		"the admin key": adminKey, "an access key": accessKey, "a header": header,
		"a token": sample.Token("user-1"), "a wrong key": "a-key-that-is-wrong-but-somebody's",
	}
	var errors [][]byte
	uuid := w.serviceOf("svc", "ams", "api-key", sample.Host, sample.Port, fmt.Sprintf(`"access_key":%q`, accessKey))
	w.call(http.MethodPost, "/v1/bindings/b", bindingBody(uuid, sample.Host, "CN=alice", "user-1"), http.StatusCreated)
	down := w.serviceOf("down", "web-api", "headers", "localhost", 1, fmt.Sprintf(`"headers":{"X-Secret":%q}`, header))
	w.call(http.MethodPost, "/v1/bindings/d", bindingBody(down, "localhost", "CN=alice", "user-1"), http.StatusCreated)
	me := w.workload("alice")
	if status, got := w.token(me, "svc", sample.Host); status != http.StatusOK || got != secrets["a token"] {
		t.Fatalf("token: got %d %s", status, got)
	}
	fail := func(c *http.Client, method, path, body string, header http.Header, want int) {
		t.Helper()
		status, raw := w.send(c, method, path, body, header)
		if status != want {
			t.Errorf("%s %s: got %d %s, want %d", method, path, status, raw, want)
		}
		errors = append(errors, raw)
	}
	fail(me, http.MethodGet, "/v1/service-types/down/hosts/localhost:authx509", "", nil, http.StatusBadGateway)
	wrong := url.QueryEscape(secrets["a wrong key"])
	fail(w.admin, http.MethodGet, "/v1/bindings?key="+wrong, "", nil, http.StatusUnauthorized)
	fail(w.admin, http.MethodGet, "/v1/no-such-path?key="+url.QueryEscape(adminKey), "", nil, http.StatusNotFound)
	fail(w.admin, http.MethodGet, "/v1/bindings/none?key="+url.QueryEscape(adminKey), "", nil, http.StatusNotFound)
	key := http.Header{"X-Api-Key": {adminKey}}
	fail(w.admin, http.MethodPost, "/v1/service-types/svc/authm", fmt.Sprintf(`{"host":%q,"port":"x","access_key":%q}`, sample.Host, accessKey), key, http.StatusBadRequest)
	fail(w.admin, http.MethodPost, "/v1/service-types/svc/authm", fmt.Sprintf(`{"host":%q,"port":1,"access_key":%q}`, sample.Host, accessKey), key, http.StatusConflict)
	fail(w.admin, http.MethodPost, "/v1/service-types/svc/authm", fmt.Sprintf(`{"host":"no-such-host","port":1,"access_key":%q}`, accessKey), key, http.StatusNotFound)

	resp, err := http.Get(w.metrics + "/metrics")
	w.must(err)
	metrics, err := io.ReadAll(resp.Body)
	w.must(err)
	_ = resp.Body.Close() // all of it was read
	w.stop()
	places := map[string][]byte{"the metrics": metrics, "an error": bytes.Join(errors, []byte("\n"))}
	w.must(filepath.WalkDir(w.dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && !strings.Contains(path, "/pki/") && filepath.Base(path) != "key" {
			places[path], err = os.ReadFile(path)
		}
		return err
	}))
	// The search finds what is there: the name of a binding is in the database.
	if !bytes.Contains(places[filepath.Join(w.dir, "bindery.db")], []byte("CN=alice")) {
		t.Error("the search does not see the database")
	}
	for what, secret := range secrets {
		for _, s := range spellings(secret) {
			for where, content := range places {
				if bytes.Contains(content, []byte(s)) {
					t.Errorf("%s is in %s", what, where)
				}
			}
		}
	}
}
