package mtls

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"bindery"
)

// names are the subject alternative names of a certificate (RFC 5280, section 4.2.1.6).
type names struct {
	DNS    []string     `json:"dns,omitempty"`
	URIs   []string     `json:"uris,omitempty"`
	IPs    []netip.Addr `json:"ips,omitempty"`
	Emails []string     `json:"emails,omitempty"`
}

// fill puts them into a template.
func (n names) fill(c *x509.Certificate) error {
	c.DNSNames, c.EmailAddresses = n.DNS, n.Emails
	for _, s := range n.URIs {
		u, err := url.Parse(s)
		if err != nil {
			return err
		}
		c.URIs = append(c.URIs, u)
	}
	for _, ip := range n.IPs {
		c.IPAddresses = append(c.IPAddresses, net.IP(ip.AsSlice()))
	}
	return nil
}

// parseBinding reads a binding's parameters. public is the key of a signing request;
// nil where there is none.
func (p plan) parseBinding(raw json.RawMessage) (n names, public any, err error) {
	err = bindery.Settings{
		"csr": func(v json.RawMessage) string {
			var text, problem string
			if json.Unmarshal(v, &text) != nil {
				return "must be a text"
			}
			public, problem = parseCSR(text)
			return problem
		},
		"dns_names":    list(p.dnsName(&n)),
		"uris":         list(p.uri(&n)),
		"ip_addresses": list(p.address(&n)),
		"emails":       list(p.email(&n)),
	}.Read("parameters", raw)
	if err == nil && max(len(n.DNS), len(n.URIs), len(n.IPs), len(n.Emails)) > mostNames {
		err = bindery.Errorf(bindery.CodeInvalid, "parameters: a certificate has at most %d names of a sort", mostNames)
	}
	return n, public, err
}

const notAllowed = "has something that the plan does not allow"

// below reports whether a host is the domain or within it.
func below(host, domain string) bool {
	return host == domain || strings.HasSuffix(host, "."+domain)
}

// dnsName takes host names. A wildcard stands for names that were not asked for, and is refused.
func (p plan) dnsName(n *names) func(string) string {
	return func(s string) string {
		s = strings.ToLower(s)
		if !isHost(s) {
			return "has something that is no DNS name"
		}
		if !slices.ContainsFunc(p.DNSSuffixes, func(d string) bool { return below(s, d) }) {
			return notAllowed
		}
		n.DNS = append(n.DNS, s)
		return ""
	}
}

// uri takes what begins with an allowed prefix and means the same to everybody: no
// steps up, no escapes, no user (as the SPIFFE standard has it for its ids).
func (p plan) uri(n *names) func(string) string {
	return func(s string) string {
		u, err := url.Parse(s)
		if err != nil || len(s) > mostURL || !ascii(s) || strings.ContainsAny(s, `%?#\`) || u.User != nil ||
			u.Path == "" || path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") {
			return "has something that is no plain URI"
		}
		if !slices.ContainsFunc(p.URIPrefixes, func(prefix string) bool { return strings.HasPrefix(s, prefix) && s != prefix }) {
			return notAllowed
		}
		n.URIs = append(n.URIs, s)
		return ""
	}
}

func (p plan) address(n *names) func(string) string {
	return func(s string) string {
		ip, err := netip.ParseAddr(s)
		if err != nil || ip.Zone() != "" {
			return "has something that is no IP address"
		}
		ip = ip.Unmap()
		if !slices.ContainsFunc(p.Addresses, func(r netip.Prefix) bool { return r.Contains(ip) }) {
			return notAllowed
		}
		n.IPs = append(n.IPs, ip)
		return ""
	}
}

// email takes addresses of an allowed domain, which is meant exactly.
func (p plan) email(n *names) func(string) string {
	return func(s string) string {
		local, domain, ok := strings.Cut(s, "@")
		if !ok || local == "" || len(local) > 64 || !ascii(local) || strings.ContainsAny(local, `"(),:;<>[\]@`) || !isHost(strings.ToLower(domain)) {
			return "has something that is no e-mail address"
		}
		if !slices.Contains(p.MailDomains, strings.ToLower(domain)) {
			return notAllowed
		}
		n.Emails = append(n.Emails, local+"@"+strings.ToLower(domain))
		return ""
	}
}

// parseCSR reads a certificate signing request (RFC 2986): its signature shows that
// whoever sent it has the key. Its names and wishes are not looked at.
func parseCSR(text string) (public any, problem string) {
	const bad = "must be one certificate signing request in PEM"
	if len(text) > mostCSR {
		return nil, "is too long"
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" ||
		strings.TrimSpace(string(rest)) != "" || len(block.Headers) > 0 {
		return nil, bad
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, bad
	}
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, "is refused: " + err.Error()
	}
	if csr.CheckSignature() != nil { // as crypto/x509 has it, also where the algorithm is weak
		return nil, "is not signed with its own key, or with a weak algorithm"
	}
	return csr.PublicKey, ""
}
