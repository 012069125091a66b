package broker_test

import (
	"encoding/json"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"bindery"
	"bindery/broker/brokertest"
	"bindery/driver/mtls"
	"bindery/store/storetest"
)

// TestADriverRecordsWithTheAccount: a certificate's serial number is committed together with its account, or
// neither is; and a bind needs no transaction but its first and its last.
func TestADriverRecordsWithTheAccount(t *testing.T) {
	t.Parallel()
	s := brokertest.OpenStore(t)
	var updates atomic.Int64
	var refused atomic.Bool
	errDisk := bindery.Errorf(bindery.CodeUnavailable, "the disk is full")
	faults := storetest.Faulty(s, func(_, method string) error {
		switch {
		case method == "Update":
			updates.Add(1)
		case method == "Commit" && refused.Load():
			return errDisk
		}
		return nil
	})
	d, err := mtls.Kind.Open(bindery.Server{
		Name: "ca", Kind: "mtls", Installation: s.Installation(), Timeout: 5 * time.Second, Store: faults,
		Settings: json.RawMessage(`{"public_url":"http://pki.example"}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	catalog := &bindery.Catalog{Offerings: []*bindery.Offering{{ID: "redis", Name: "certificates", Bindable: true, Plans: []*bindery.Plan{{
		ID: "small", Name: "small", Kind: "mtls", Servers: []string{"ca"}, Settings: json.RawMessage(`{}`), Revocation: bindery.RevocationProven,
	}}}}}
	e := brokertest.New(t, faults, func() *bindery.Catalog { return catalog }, func(name string) (bindery.Driver, bool) { return d, name == "ca" })
	e.Start(t)
	if _, err := e.Provision(t.Context(), waits, provisionRequest("i", "small")); err != nil {
		t.Fatal(err)
	}
	issued := func() (all []bindery.IssuedCertificate) {
		t.Helper()
		if err := s.View(t.Context(), func(tx bindery.Tx) (err error) {
			all, err = tx.Certificates().List(t.Context(), "ca", false, time.Time{}, bindery.Page{})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}

	refused.Store(true)
	if _, err := e.Bind(t.Context(), waits, bindRequest("i", "b")); !errors.Is(err, errDisk) {
		t.Fatalf("got %v", err)
	}
	if got := issued(); len(got) != 0 {
		t.Fatalf("there is no account, and there are certificates: %+v", got)
	}
	refused.Store(false)
	before := updates.Load()
	r, err := e.Bind(t.Context(), waits, bindRequest("i", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if n := updates.Load() - before; n != 2 {
		t.Errorf("a bind made %d transactions", n)
	}
	if got := issued(); len(got) != 1 || got[0].Serial != r.Credential.Object["serial"] {
		t.Errorf("the certificate that was handed out is %v, those recorded are %+v", r.Credential.Object["serial"], got)
	}
}
