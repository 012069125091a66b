package identity_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/identity"
	"bindery/test/poll"
)

var (
	oidDelta  = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidIDP    = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidIssuer = asn1.ObjectIdentifier{2, 5, 29, 29}
)

func crit(oid asn1.ObjectIdentifier, value ...byte) []pkix.Extension {
	return []pkix.Extension{{Id: oid, Critical: true, Value: value}}
}

// idp makes an IssuingDistributionPoint: SEQUENCE { [0] { [0] { [6] url } }, ... }.
func idp(url string, flags ...byte) []pkix.Extension {
	var body []byte
	if url != "" {
		n := byte(len(url))
		body = append([]byte{0xa0, n + 4, 0xa0, n + 2, 0x86, n}, url...)
	}
	for _, f := range flags {
		body = append(body, 0x80|f, 1, 0xff)
	}
	return crit(oidIDP, append([]byte{0x30, byte(len(body))}, body...)...)
}

// TestListThatCountsForNothing: each of these, as the only list there is, leaves the certificate unchecked.
func TestListThatCountsForNothing(t *testing.T) {
	t.Parallel()
	root, twin, other := newCA(t, "Root"), newCA(t, "Root"), newCA(t, "Other")
	mute := newCA(t, "Mute", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	mayCRL := &signer{cert: newCACertFor(t, mute), key: mute.key}
	wrapped := func(b []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: b})
	}
	bent := root.crl(t, list{})
	bent[len(bent)-1] ^= 1
	tests := map[string]struct {
		body    []byte
		handler http.HandlerFunc
		by      *signer
		want    string
	}{
		"a good one":                    {body: root.crl(t, list{})},
		"a good one in PEM":             {body: wrapped(root.crl(t, list{}))},
		"for users only":                {body: root.crl(t, list{extensions: idp("", 1)})},
		"stale":                         {body: root.crl(t, list{from: -2 * time.Hour, to: -time.Hour}), want: unchecked},
		"from the future":               {body: root.crl(t, list{from: time.Hour}), want: unchecked},
		"for authorities only":          {body: root.crl(t, list{extensions: idp("", 2)}), want: unchecked},
		"for another point":             {body: root.crl(t, list{extensions: idp("http://other.example/")}), want: unchecked},
		"indirect":                      {body: root.crl(t, list{extensions: idp("", 4)}), want: unchecked},
		"for attribute certificates":    {body: root.crl(t, list{extensions: idp("", 5)}), want: unchecked},
		"for some reasons":              {body: root.crl(t, list{extensions: crit(oidIDP, 0x30, 4, 0x83, 2, 6, 0x40)}), want: unchecked},
		"a malformed point":             {body: root.crl(t, list{extensions: crit(oidIDP, 0x30, 9)}), want: unchecked},
		"a delta":                       {body: root.crl(t, list{extensions: crit(oidDelta, 2, 1, 1)}), want: unchecked},
		"critical and unknown":          {body: root.crl(t, list{extensions: crit(asn1.ObjectIdentifier{1, 2, 3, 4}, 5, 0)}), want: unchecked},
		"an entry of another issuer":    {body: root.crl(t, list{revoked: []*signer{other}, entry: crit(oidIssuer, 0x30, 0)}), want: unchecked},
		"signed by a key of its name":   {body: twin.crl(t, list{}), want: unchecked},
		"of another authority":          {body: other.crl(t, list{}), want: unchecked},
		"signature bent":                {body: bent, want: unchecked},
		"by one who may not sign lists": {body: mayCRL.crl(t, list{}), by: mute, want: unchecked},
		"garbage":                       {body: []byte("<html>"), want: unchecked},
		"empty":                         {body: []byte{}, want: unchecked},
		"cut off":                       {body: root.crl(t, list{})[:80], want: unchecked},
		"something behind it":           {body: append(root.crl(t, list{}), 0), want: unchecked},
		"too large":                     {body: append(root.crl(t, list{}), bytes.Repeat([]byte{0}, 1<<20)...), want: unchecked},
		"an error":                      {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, want: unchecked},
		"a redirect away from http": {handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://127.0.0.1/", http.StatusFound)
		}, want: unchecked},
		"a redirect to itself": {handler: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/", http.StatusFound)
		}, want: unchecked},
		"not modified, unasked": {handler: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, want: unchecked},
		"never":                 {handler: hang, want: unchecked},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := newCRLServer(t, test.body)
			timeout := 20 * time.Second
			if test.handler != nil {
				srv.handle(test.handler)
				timeout = 200 * time.Millisecond
			}
			by := test.by
			if by == nil {
				by = root
			}
			w := newWorld(t, []*signer{by}, func(o *identity.CertificateOptions) { o.MaxCRLBytes, o.FetchTimeout = 1<<20, timeout })
			w.wants(t, by.leaf(t, "leaf", points(srv.URL)), test.want)
		})
	}
}

func TestTwoAuthoritiesOfOneName(t *testing.T) {
	t.Parallel()
	a, b := newCA(t, "Root"), newCA(t, "Root")
	w := &world{dir: t.TempDir(), clock: newPKIClock(), log: &poll.Buffer{}}
	w.write(t, "aaaaaaaa.0", a.pem())
	w.write(t, "aaaaaaaa.1", b.pem())
	serial := func(c *x509.Certificate) { c.SerialNumber = bigInt([]byte{7}) }
	ofA, ofB := a.leaf(t, "x", serial), b.leaf(t, "x", serial)
	w.write(t, "aaaaaaaa.r0", a.crl(t, list{number: 5, revoked: []*signer{ofA}}))
	w.write(t, "aaaaaaaa.r1", b.crl(t, list{number: 4}))
	w.open(t, func(o *identity.CertificateOptions) { o.RequireCRL = true })
	w.wants(t, ofA, isRevoked)
	w.wants(t, ofB, "")
}

// TestNumbersDoNotGoBack: somebody on the way to the distribution point replays an older list.
func TestNumbersDoNotGoBack(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	srv := newCRLServer(t, nil)
	leaf := root.leaf(t, "leaf", points(srv.URL))
	srv.serve(root.crl(t, list{number: 9, from: -3 * time.Hour, revoked: []*signer{leaf}}))
	w := newWorld(t, []*signer{root})
	w.wants(t, leaf, isRevoked)
	srv.serve(root.crl(t, list{number: 8, from: -2 * time.Hour}))
	w.clock.add(2 * time.Hour)
	poll.Until(t, "the replay is seen", func() bool { return w.Stats().Sources[0].Failures > 0 })
	w.wants(t, leaf, isRevoked)
	srv.serve(root.crl(t, list{number: 10, from: -time.Hour}))
	w.clock.add(2 * time.Hour)
	w.soonWants(t, leaf, "")
}

func TestAllPointsAreTried(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	hanging, broken, good := newCRLServer(t, nil), newCRLServer(t, []byte("no")), newCRLServer(t, nil)
	hanging.handle(hang)
	where := points("ldap://127.0.0.1/x", hanging.URL, broken.URL, "http://", "::", good.URL)
	leaf, revoked := root.leaf(t, "leaf", where), root.leaf(t, "revoked", where)
	good.serve(root.crl(t, list{revoked: []*signer{revoked}}))
	w := newWorld(t, []*signer{root}, func(o *identity.CertificateOptions) { o.FetchTimeout = time.Minute })
	w.wants(t, revoked, isRevoked)
	w.wants(t, leaf, "")
	poll.Until(t, "each point is asked once", func() bool {
		return hanging.requests.Load() == 1 && broken.requests.Load() == 1 && good.requests.Load() == 1
	})
	w.stop()
	hanging.CloseClientConnections()
}

func TestFirstFetchIsShared(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	srv := newCRLServer(t, nil)
	body, gate := root.crl(t, list{}), make(chan struct{})
	srv.handle(func(w http.ResponseWriter, _ *http.Request) {
		<-gate
		w.Write(body)
	})
	w := newWorld(t, []*signer{root})
	var all, begun sync.WaitGroup
	for range 20 {
		leaf := root.leaf(t, "leaf", points(srv.URL))
		begun.Add(1)
		all.Go(func() {
			begun.Done()
			w.wants(t, leaf, "")
		})
	}
	begun.Wait()
	poll.Until(t, "the fetch has begun", func() bool { return srv.requests.Load() > 0 })
	close(gate)
	all.Wait()
	if n := srv.requests.Load(); n != 1 {
		t.Errorf("%d fetches for 20 callers", n)
	}
}

// TestHangingIssuer: it holds up its own first callers for as long as one fetch may take, once, and nobody else.
func TestHangingIssuer(t *testing.T) {
	t.Parallel()
	bad, fine := newCA(t, "Bad"), newCA(t, "Fine")
	hanging, good := newCRLServer(t, nil), newCRLServer(t, fine.crl(t, list{}))
	hanging.handle(hang)
	w := newWorld(t, []*signer{bad, fine}, func(o *identity.CertificateOptions) { o.FetchTimeout = 2 * time.Second })
	ofBad := bad.leaf(t, "b", points(hanging.URL+"/1", hanging.URL+"/2", hanging.URL+"/3"))
	var waiting sync.WaitGroup
	waiting.Go(func() { w.wants(t, ofBad, unchecked) })
	poll.Until(t, "the fetch hangs", func() bool { return hanging.requests.Load() > 0 })
	begun := time.Now()
	w.wants(t, fine.leaf(t, "f", points(good.URL)), "")
	if d := time.Since(begun); d > time.Second {
		t.Errorf("another issuer's first caller waited %s", d)
	}
	waiting.Wait()
	poll.Until(t, "all have failed", func() bool {
		tried := 0
		for _, s := range w.Stats().Sources {
			if s.Failures > 0 {
				tried++
			}
		}
		return tried == 3
	})
	begun = time.Now()
	w.wants(t, ofBad, unchecked)
	if d := time.Since(begun); d > time.Second {
		t.Errorf("the second caller waited %s", d)
	}
}

func TestStaleList(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	for _, stale := range []string{"refuse", "warn"} {
		t.Run(stale, func(t *testing.T) {
			t.Parallel()
			srv := newCRLServer(t, nil)
			leaf, revoked := root.leaf(t, "leaf", points(srv.URL)), root.leaf(t, "revoked", points(srv.URL))
			srv.serve(root.crl(t, list{revoked: []*signer{revoked}}))
			w := newWorld(t, []*signer{root}, func(o *identity.CertificateOptions) { o.StaleCRL = stale })
			w.wants(t, leaf, "")
			srv.handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
			w.clock.add(25 * time.Hour)
			if stale == "refuse" {
				w.wants(t, leaf, unchecked)
			} else {
				w.wants(t, leaf, "")
				w.wants(t, leaf, "")
				if n := w.log.Count("accepted without a current revocation list"); n != 1 {
					t.Errorf("the log warns %d times", n)
				}
			}
			w.wants(t, revoked, isRevoked) // a stale list still revokes
			poll.Until(t, "the failure is seen", func() bool { return w.Stats().Sources[0].Failures > 0 })
			srv.serve(root.crl(t, list{number: 2, to: 100 * time.Hour}))
			w.clock.add(time.Hour)
			w.soonWants(t, leaf, "")
		})
	}
}

func TestListsOutliveTheProcess(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	srv := newCRLServer(t, nil)
	leaf, revoked := root.leaf(t, "leaf", points(srv.URL)), root.leaf(t, "revoked", points(srv.URL))
	good := root.crl(t, list{number: 3, revoked: []*signer{revoked}})
	srv.serve(good)
	cache := filepath.Join(t.TempDir(), "crls")
	keep := func(o *identity.CertificateOptions) { o.CacheDir = cache }
	w := newWorld(t, []*signer{root}, keep)
	w.wants(t, leaf, "")
	w.stop()
	srv.handle(hang)
	w.open(t, keep)
	w.wants(t, leaf, "")
	w.wants(t, revoked, isRevoked)
	w.stop()

	files, err := filepath.Glob(filepath.Join(cache, "*.crl"))
	mustDo(t, err)
	if len(files) != 1 {
		t.Fatalf("the cache has %q", files)
	}
	srv.handle(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	twin := newCA(t, "Root")
	for name, content := range map[string][]byte{
		"garbage": []byte("garbage"), "half": good[:len(good)/2], "signed by another": twin.crl(t, list{}), "empty": nil,
	} {
		mustDo(t, os.WriteFile(files[0], content, 0o600))
		w.open(t, keep)
		if _, err := w.prove(t, leaf.chain()); bindery.MessageOf(err) != unchecked {
			t.Errorf("%s: %v", name, err)
		}
		w.stop()
	}
	mustDo(t, os.WriteFile(filepath.Join(cache, "killed.tmp"), good[:9], 0o600))
	srv.serve(good)
	w.open(t, keep)
	w.wants(t, revoked, isRevoked)
	if _, err := os.Stat(filepath.Join(cache, "killed.tmp")); err == nil {
		t.Error("what a killed process left half written is still there")
	}
}

func TestNotModified(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	body := root.crl(t, list{})
	srv := newCRLServer(t, nil)
	var spared sync.WaitGroup
	spared.Add(1)
	once := sync.OnceFunc(spared.Done)
	srv.handle(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			once()
			return
		}
		w.Header().Set("ETag", `"1"`)
		w.Write(body)
	})
	w := newWorld(t, []*signer{root})
	leaf := root.leaf(t, "leaf", points(srv.URL))
	w.wants(t, leaf, "")
	w.clock.add(2 * time.Hour)
	spared.Wait()
	poll.Until(t, "the attempt ends", func() bool { return w.Stats().Sources[0].Fetched.Equal(w.clock.now()) })
	w.wants(t, leaf, "")
}

// TestPartitions: an authority cuts its list into parts, each with a distribution point of its own.
func TestPartitions(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	srv := newCRLServer(t, nil)
	one, two := srv.URL+"/1", srv.URL+"/2"
	fine, revoked := root.leaf(t, "a", points(one)), root.leaf(t, "b", points(two))
	parts := map[string][]byte{
		"/1": root.crl(t, list{number: 7, extensions: idp(one)}),
		"/2": root.crl(t, list{number: 3, extensions: idp(two), revoked: []*signer{revoked}}),
	}
	srv.handle(func(w http.ResponseWriter, r *http.Request) { w.Write(parts[r.URL.Path]) })
	w := newWorld(t, []*signer{root})
	w.wants(t, fine, "")
	w.wants(t, revoked, isRevoked)
	if n := srv.requests.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestMillionRevoked holds a list of a real size: 20 bytes for each serial number of 16, at most.
func TestMillionRevoked(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a list of a million entries")
	}
	const n = 1_000_000
	root := newCA(t, "Root")
	srv := newCRLServer(t, nil)
	leaf, revoked := root.leaf(t, "leaf", points(srv.URL)), root.leaf(t, "revoked", points(srv.URL))
	body := func() []byte {
		var many []*signer
		serials := make([]byte, 16*n)
		rand.Read(serials)
		for i := range n {
			serials[16*i] |= 1
			many = append(many, &signer{cert: &x509.Certificate{SerialNumber: bigInt(serials[16*i:][:16])}})
		}
		return root.crl(t, list{revoked: append(many, revoked)})
	}()
	srv.serve(body)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	w := newWorld(t, []*signer{root}, func(o *identity.CertificateOptions) { o.FetchTimeout = 2 * time.Minute })
	before := heap()
	w.wants(t, revoked, isRevoked)
	w.wants(t, leaf, "")
	if s := w.Stats(); s.Lists[0].Entries != n+1 {
		t.Errorf("%d entries", s.Lists[0].Entries)
	}
	poll.Until(t, "the fetch ends", func() bool { return !w.Stats().Sources[0].Fetched.IsZero() })
	if grown := int64(heap()) - int64(before); grown > 20*n {
		t.Errorf("%d bytes are held for %d entries (the list itself has %d)", grown, n, len(body))
	}
}

func TestListFiles(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	sub := issue(t, root, ecKey(t), called("Grid", "Sub"), isCA)
	leaf, ofSub := root.leaf(t, "leaf"), sub.leaf(t, "of sub")
	w := newWorld(t, []*signer{root}, func(o *identity.CertificateOptions) { o.RequireCRL = true })
	w.wants(t, leaf, noPoint)
	w.write(t, "0a1b2c3d.r0", root.crl(t, list{}))
	w.soonWants(t, leaf, "")
	w.write(t, "0a1b2c3e.r0", sub.crl(t, list{})) // of an authority that only clients send
	poll.Until(t, "it is taken in", func() bool { _, err := w.prove(t, ofSub.chain()); return err == nil })
	w.write(t, "0a1b2c3d.r0", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: root.crl(t, list{number: 2, revoked: []*signer{leaf}})}))
	w.soonWants(t, leaf, isRevoked)
	w.write(t, "0a1b2c3d.r0", []byte("broken"))
	poll.Until(t, "the log says so", func() bool { return w.log.Count("a revocation list is not used") == 1 })
	w.wants(t, leaf, isRevoked)
	w.write(t, "0a1b2c3d.r0", root.crl(t, list{number: 3, revoked: []*signer{sub}}))
	w.soonWants(t, ofSub, issuerRevoked)
	w.wants(t, leaf, "")
	if s := w.Stats(); len(s.Lists) != 2 || s.Authorities != 1 || s.TrustProblem != "" {
		t.Errorf("%+v", s)
	}
}

// After a restart nobody remembers whom a list named that was broken meanwhile.
func TestBrokenListFileAtStart(t *testing.T) {
	t.Parallel()
	root, other := newCA(t, "Root"), newCA(t, "Other")
	leaf, ofOther := root.leaf(t, "leaf"), other.leaf(t, "of other")
	w := newWorld(t, []*signer{root, other})
	w.write(t, "Root.r0", root.crl(t, list{revoked: []*signer{leaf}}))
	w.soonWants(t, leaf, isRevoked)
	w.stop()
	for _, broken := range [][]byte{[]byte("broken"), nil, newCA(t, "Root").crl(t, list{})} {
		w.write(t, "Root.r0", broken)
		w.open(t)
		w.wants(t, leaf, unchecked)
		w.wants(t, ofOther, "")
		w.stop()
	}
	w.open(t, func(o *identity.CertificateOptions) { o.StaleCRL = "warn" })
	w.wants(t, leaf, "")
	w.write(t, "Root.r0", root.crl(t, list{number: 2, revoked: []*signer{leaf}}))
	w.soonWants(t, leaf, isRevoked)
	w.stop()
	w.open(t)
	w.wants(t, root.leaf(t, "another"), "")
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	if _, err := identity.NewCertificates(identity.CertificateOptions{StaleCRL: "shrug"}); err == nil {
		t.Error("a choice that does not exist was taken")
	}
	if _, err := identity.NewCertificates(identity.CertificateOptions{TrustDir: "/does/not/exist"}); err == nil {
		t.Error("a directory that does not exist was taken")
	}
	bad := filepath.Join(t.TempDir(), "bad.pem")
	mustDo(t, os.WriteFile(bad, []byte("not PEM"), 0o600))
	if _, err := identity.NewCertificates(identity.CertificateOptions{TrustFiles: []string{bad}}); err == nil || !strings.Contains(err.Error(), bad) {
		t.Errorf("a broken file: %v", err)
	}
}

// TestFetchThatPanics: should a parser of what was fetched panic, that is an attempt
// that failed. Here it is the clock, the first time that it is asked after an answer.
func TestFetchThatPanics(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	srv := newCRLServer(t, nil)
	var armed atomic.Bool
	good := root.crl(t, list{})
	srv.handle(func(w http.ResponseWriter, _ *http.Request) {
		armed.Store(srv.requests.Load() == 1)
		_, _ = w.Write(good)
	})
	w := newWorld(t, []*signer{root}, withOCSP, func(o *identity.CertificateOptions) {
		now := o.Now
		o.PollEvery = time.Hour // nobody else asks for the time
		o.Now = func() time.Time {
			if armed.Swap(false) {
				panic("as a parser might")
			}
			return now()
		}
	})
	leaf := root.leaf(t, "leaf", points(srv.URL))
	w.wants(t, leaf, unchecked)
	poll.Until(t, "the log says why", func() bool { return w.log.Count("panic: as a parser might") == 1 })
	w.clock.add(time.Minute)
	poll.Until(t, "the list is fetched again", func() bool {
		_, err := w.prove(t, leaf.chain())
		return err == nil
	})
}
