package mtls

import (
	"encoding/json"
	"time"

	"bindery"
)

// nameText is a name as RFC 4514 writes it, which is what identity bindings are made with.
func nameText(raw []byte) string {
	n, err := bindery.DNFromDER(raw)
	if err != nil {
		return ""
	}
	return n.String()
}

// A chain is what credentials have of an authority's certificates: PEM, and a name.
type chain struct{ whole, sent, last, issuer string }

// chain takes apart what an account keeps of its authority. Nearly all accounts have the same.
func (d *driver) chain(whole string) (*chain, error) {
	if c := d.rendered.Load(); c != nil && c.whole == whole {
		return c, nil
	}
	certs, err := parseCertificates(whole)
	if err != nil {
		return nil, errMaterial
	}
	c := &chain{whole: whole, last: certificatePEM(certs[len(certs)-1].Raw), issuer: nameText(certs[0].RawSubject)}
	for _, cert := range certs {
		// A server sends its chain without the root, and so does a client (RFC 8446, section 4.4.2).
		if string(cert.RawSubject) != string(cert.RawIssuer) {
			c.sent += certificatePEM(cert.Raw)
		}
	}
	d.rendered.Store(c)
	return c, nil
}

// Render implements [bindery.AccountDriver].
func (d *driver) Render(_ bindery.InstanceSpec, account bindery.Account) (bindery.Credential, error) {
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Credential{}, err
	}
	if m.Certificate == "" {
		return bindery.Credential{}, errUnsigned
	}
	chain, err := d.chain(m.Chain)
	if err != nil {
		return bindery.Credential{}, err
	}
	object := map[string]any{
		"tls.crt":      m.Certificate + chain.sent,
		"ca.crt":       chain.last,
		"certificates": chain.whole,
		"serial":       m.Serial,
		"subject":      nameText(m.Subject),
		"issuer":       chain.issuer,
		"not-after":    m.NotAfter.Format(time.RFC3339),
		"crl":          d.url("ca.crl"),
		"ocsp":         d.url("ocsp"),
	}
	if !m.Key.Empty() {
		object["tls.key"], object["private-key"] = m.Key.Reveal(), m.Key.Reveal()
	}
	return bindery.Credential{Object: object}, nil
}

// credentialSchema: the private key is there under both names, or (with a signing request) under none.
func credentialSchema(json.RawMessage, []string) json.RawMessage {
	raw := bindery.CredentialSchema(
		bindery.CredentialKey{Name: "tls.crt", Doc: "The certificate, then those between it and the root, PEM."},
		bindery.CredentialKey{Name: "tls.key", Doc: "Its private key, PKCS #8, PEM. Not there for a signing request.", Optional: true},
		bindery.CredentialKey{Name: "private-key", Doc: "As tls.key.", Optional: true},
		bindery.CredentialKey{Name: "ca.crt", Doc: "The last certificate of the authority's chain, PEM: the root of an authority of Bindery's own."},
		bindery.CredentialKey{Name: "certificates", Doc: "The authority's whole chain, its own certificate first, PEM."},
		bindery.CredentialKey{Name: "serial", Doc: "The certificate's serial number, hexadecimal."},
		bindery.CredentialKey{Name: "subject", Doc: "The certificate's name (RFC 4514); no other binding has it."},
		bindery.CredentialKey{Name: "issuer", Doc: "The authority's name (RFC 4514)."},
		bindery.CredentialKey{Name: "not-after", Doc: "When the certificate expires (RFC 3339)."},
		bindery.CredentialKey{Name: "crl", Doc: "Where the revocation list is."},
		bindery.CredentialKey{Name: "ocsp", Doc: "Where the OCSP responder is."},
	)
	var schema map[string]any
	if json.Unmarshal(raw, &schema) != nil {
		return nil // cannot happen: it was just written
	}
	schema["dependencies"] = map[string][]string{"tls.key": {"private-key"}, "private-key": {"tls.key"}}
	raw, err := json.Marshal(schema)
	if err != nil {
		return nil // cannot happen: texts, lists and maps of them
	}
	return raw
}
