package mtls

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"time"

	"bindery"
)

// Prepare implements [bindery.AccountDriver].
func (d *driver) Prepare(spec bindery.InstanceSpec, req bindery.AccountRequest) (bindery.Secret, error) {
	p, err := parsePlan(spec.Settings)
	if err != nil {
		return bindery.Secret{}, err
	}
	m := material{Server: p.Server, Serial: serialText(newSerial())}
	var public any
	if m.Names, public, err = p.parseBinding(req.Parameters); err != nil {
		return bindery.Secret{}, err
	}
	now := d.now()
	m.NotBefore = now.Add(-backdate).UTC().Truncate(time.Second)
	if m.NotAfter, err = p.end(now, req.Expires); err != nil {
		return bindery.Secret{}, err
	}
	// The account's name is never used twice, and so is the whole name: it means one binding.
	m.Subject, err = subjectDER(rdn{oidOrganization, p.Organization}, rdn{oidUnit, p.Unit}, rdn{oidUnit, spec.Name}, rdn{oidCommonName, req.Name})
	if err != nil {
		return bindery.Secret{}, fmt.Errorf("write the subject: %w", err)
	}
	if public == nil {
		key, err := newKey(p.Algorithm)
		if err != nil {
			return bindery.Secret{}, fmt.Errorf("make a key: %w", err)
		}
		public = key.Public()
		if m.Key, err = encodeKey(key); err != nil {
			return bindery.Secret{}, fmt.Errorf("write a key: %w", err)
		}
	}
	if m.Public, err = x509.MarshalPKIXPublicKey(public); err != nil {
		return bindery.Secret{}, fmt.Errorf("write a key: %w", err)
	}
	return m.seal()
}

// end is when a certificate ends that is made now.
func (p plan) end(now, expires time.Time) (time.Time, error) {
	switch {
	case expires.IsZero():
		expires = now.Add(p.Default)
	case !expires.After(now):
		return expires, errOver
	case expires.Sub(now) > p.Most+time.Minute: // the request took a moment
		return expires, bindery.Errorf(bindery.CodeInvalid, "the plan has certificates of at most %v", p.Most)
	}
	return wholeSecond(expires), nil
}

// wholeSecond is the first whole second that is not before t: a certificate knows no
// others, and must be good until its binding ends.
func wholeSecond(t time.Time) time.Time { return t.UTC().Add(time.Second - 1).Truncate(time.Second) }

var errOver = bindery.Errorf(bindery.CodeInvalid, "the binding has expired")

// details are facts about a certificate that are no secrets.
type details struct {
	Serial  string    `json:"serial"`
	Subject string    `json:"subject"`
	Issuer  string    `json:"issuer"`
	Expires time.Time `json:"not_after"`
}

// Ensure implements [bindery.AccountDriver]. See the package comment for what is repeated and what is made anew.
func (d *driver) Ensure(ctx context.Context, spec bindery.InstanceSpec, account bindery.Account) (bindery.Ensured, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	if err := d.checkName(account.Name); err != nil {
		return bindery.Ensured{}, err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Ensured{}, err
	}
	p, err := parsePlan(spec.Settings)
	if err != nil {
		return bindery.Ensured{}, err
	}
	a, err := d.authority(ctx)
	if err != nil {
		return bindery.Ensured{}, err
	}
	now := d.now()
	if now.After(a.cert.NotAfter) {
		return bindery.Ensured{}, errExpired
	}
	first := issue{serial: m.Serial, notBefore: m.NotBefore, notAfter: m.NotAfter}
	again := issue{serial: serialText(newSerial()), notBefore: now.Add(-backdate).UTC().Truncate(time.Second)}
	// The plan may allow less by now than when the binding was made: that is no reason to fail it.
	if again.notAfter = wholeSecond(account.Expires); account.Expires.IsZero() {
		again.notAfter = wholeSecond(now.Add(p.Default))
	} else if !account.Expires.After(now) {
		return bindery.Ensured{}, errOver
	}
	for _, i := range []*issue{&first, &again} {
		if i.notAfter.After(a.cert.NotAfter) {
			i.notAfter = a.cert.NotAfter
		}
	}
	made := first
	if !account.Recorded {
		if made, err = d.record(ctx, account.Name, m, first, again); err != nil {
			return bindery.Ensured{}, err
		}
	}
	ensured, err := d.sign(ctx, a, m, made)
	if account.Expires.IsZero() || made.notAfter.Before(account.Expires) {
		ensured.Expires = made.notAfter
	}
	return ensured, err
}

// An issue is what distinguishes one certificate of an account from the next.
type issue struct {
	serial              string
	notBefore, notAfter time.Time
}

// Record implements [bindery.Recorder]: the first serial number is committed with the account, under its
// row, which no other certificate has. What the authority may not live to see the end of is left to Ensure.
func (d *driver) Record(ctx context.Context, tx bindery.Tx, account bindery.Account) (bool, error) {
	a := d.known.Load()
	first, err := firstIssue(account.Material)
	if err != nil || a == nil || first.notAfter.After(a.cert.NotAfter) {
		return false, err
	}
	err = tx.Certificates().Add(ctx, bindery.IssuedCertificate{
		Row: account.Row, Server: d.server.Name, Serial: first.serial, Name: account.Name, Expires: first.notAfter,
	})
	return err == nil, err
}

// record commits the serial number that is to be signed: the first, unless it is
// in somebody's hands or revoked already; then another, and no earlier one is valid any more.
func (d *driver) record(ctx context.Context, name string, m material, first, again issue) (made issue, err error) {
	row, err := d.server.Store.NewID(ctx)
	if err != nil {
		return made, storeError(err)
	}
	revoked := false
	now := d.now()
	err = d.server.Store.Update(ctx, func(tx bindery.Tx) error {
		revoked, made = false, again
		table := tx.Certificates()
		known, err := table.BySerial(ctx, d.server.Name, first.serial)
		switch {
		case bindery.CodeOf(err) == bindery.CodeNotFound && m.Certificate == "" && now.Before(first.notAfter):
			made = first
		case err != nil && bindery.CodeOf(err) != bindery.CodeNotFound:
			return err
		case err == nil && known.Name == name && known.Revoked.IsZero() && m.Certificate == "":
			// Nobody has it but who was told together with us: the same certificate.
			made = issue{first.serial, first.notBefore, known.Expires}
			return nil
		}
		if revoked, err = d.revoke(ctx, tx, name, now); err != nil {
			return err
		}
		return table.Add(ctx, bindery.IssuedCertificate{
			Row: row, Server: d.server.Name, Serial: made.serial, Name: name, Expires: made.notAfter,
		})
	})
	if err != nil {
		return made, storeError(err)
	}
	if revoked {
		d.changed()
	}
	return made, nil
}

// revoke revokes what a name has, and reports whether there was something.
func (d *driver) revoke(ctx context.Context, tx bindery.Tx, name string, at time.Time) (bool, error) {
	last, err := tx.Certificates().ByName(ctx, d.server.Name, name)
	if bindery.CodeOf(err) == bindery.CodeNotFound || err == nil && !last.Revoked.IsZero() {
		return false, nil
	}
	if err == nil {
		err = tx.Certificates().Revoke(ctx, d.server.Name, name, at)
	}
	if err == nil {
		_, err = tx.Authorities().NextCRL(ctx, d.server.Name)
	}
	return err == nil, err
}

// sign signs what was recorded.
func (d *driver) sign(ctx context.Context, a *authority, m material, made issue) (bindery.Ensured, error) {
	if err := ctx.Err(); err != nil {
		return bindery.Ensured{}, storeError(err) // who gave up must not have a certificate after all
	}
	serial, ok := parseSerial(made.serial)
	if !ok {
		return bindery.Ensured{}, bindery.Errorf(bindery.CodeInternal, "a serial number is damaged")
	}
	der, err := d.certificate(a, m, made, serial)
	if err != nil {
		return bindery.Ensured{}, bindery.Errorf(bindery.CodeInternal, "the certificate could not be signed").Because(err)
	}
	above, err := d.chain(a.pem())
	if err != nil {
		return bindery.Ensured{}, err
	}
	m.Certificate, m.Chain = certificatePEM(der), above.whole
	m.Serial, m.NotBefore, m.NotAfter = made.serial, made.notBefore, made.notAfter
	facts := details{Serial: m.Serial, Expires: m.NotAfter, Subject: nameText(m.Subject), Issuer: above.issuer}
	raw, err := json.Marshal(facts)
	if err != nil {
		return bindery.Ensured{}, err
	}
	material, err := m.seal()
	return bindery.Ensured{Details: raw, Material: material}, err
}

// certificate signs. Without a source of chance the signature depends on what is signed alone.
func (d *driver) certificate(a *authority, m material, made issue, serial *big.Int) ([]byte, error) {
	template := &x509.Certificate{
		SerialNumber: serial, RawSubject: m.Subject, NotBefore: made.notBefore, NotAfter: made.notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		CRLDistributionPoints: []string{d.url("ca.crl")},
		OCSPServer:            []string{d.url("ocsp")},
		IssuingCertificateURL: []string{d.url("ca.crt")},
	}
	if m.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if err := m.Names.fill(template); err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(m.Public)
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificate(nil, template, a.cert, public, a.key)
}

// url is where the face pki has something of this server.
func (d *driver) url(name string) string {
	return d.settings.PublicURL + "/pki/" + d.server.Name + "/" + name
}

// Revoke implements [bindery.AccountDriver]: with the commit it is done, since no list
// and no answer is given out without a look at the store.
//
// A serial number that was prepared and is not recorded is recorded as revoked: a call that is
// still on its way then cannot record it.
func (d *driver) Revoke(ctx context.Context, _ bindery.InstanceSpec, account bindery.Account) error {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	if err := d.checkName(account.Name); err != nil {
		return err
	}
	var unused *material
	if m, err := parseMaterial(account.Material); err == nil {
		unused = &m
	}
	if _, err := d.authority(ctx); err != nil {
		return err
	}
	row, err := d.server.Store.NewID(ctx)
	if err != nil {
		return storeError(err)
	}
	revoked := false
	now := d.now()
	err = d.server.Store.Update(ctx, func(tx bindery.Tx) (err error) {
		if revoked, err = d.revoke(ctx, tx, account.Name, now); err != nil || unused == nil {
			return err
		}
		_, err = tx.Certificates().BySerial(ctx, d.server.Name, unused.Serial)
		if bindery.CodeOf(err) != bindery.CodeNotFound || !unused.NotAfter.After(now) {
			return ignoreMissing(err)
		}
		revoked = true
		if _, err := tx.Authorities().NextCRL(ctx, d.server.Name); err != nil {
			return err
		}
		return tx.Certificates().Add(ctx, bindery.IssuedCertificate{
			Row: row, Server: d.server.Name, Serial: unused.Serial, Name: account.Name, Expires: unused.NotAfter, Revoked: now,
		})
	})
	if err != nil {
		return storeError(err)
	}
	if revoked {
		d.changed()
	}
	return nil
}

func ignoreMissing(err error) error {
	if bindery.CodeOf(err) == bindery.CodeNotFound {
		return nil
	}
	return err
}
