package identity

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	maxTrustFile  = 4 << 20
	maxTrustFiles = 20_000
)

// A trustSet is what one reading of the trust directory found. It does not change.
type trustSet struct {
	generation uint64
	loaded     time.Time
	// Authorities that were issued by another one of the set stand among the
	// intermediates: their own revocation and their issuer's policy count.
	roots, intermediates *x509.CertPool
	authorities          map[authorityID]*x509.Certificate
	policies             map[[sha256.Size]byte]*policy // by certificate
	own                  *ownSet                       // Bindery's own among them
	size                 int
	// named are the authorities by their files' names, without what follows the last dot.
	named map[string][]authorityID
}

// stem is what the files of one authority share: 1a2b3c4d.0, 1a2b3c4d.r0, 1a2b3c4d.signing_policy.
func stem(path string) string { return strings.TrimSuffix(path, filepath.Ext(path)) }

var (
	hashedCA  = regexp.MustCompile(`^[0-9a-f]{8}\.[0-9]+$`)
	hashedCRL = regexp.MustCompile(`\.r[0-9]+$`)
)

// A trustFiles is a look at the directory: what there is, by kind.
type trustFiles struct {
	authorities, policies, lists []string
	stamps                       map[string]stamp
}

// A stamp changes when a file does.
type stamp struct {
	modified time.Time
	size     int64
}

func (o *CertificateOptions) look() (trustFiles, error) {
	files := trustFiles{stamps: make(map[string]stamp)}
	add := func(list *[]string, path string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			return nil
		}
		*list = append(*list, path)
		files.stamps[path] = stamp{info.ModTime(), info.Size()}
		if len(files.stamps) > maxTrustFiles {
			return errors.New("the trust directory has too many files")
		}
		return nil
	}
	var entries []os.DirEntry
	if o.TrustDir != "" {
		var err error
		if entries, err = os.ReadDir(o.TrustDir); err != nil {
			return files, err
		}
	}
	for _, e := range entries {
		name, path := e.Name(), filepath.Join(o.TrustDir, e.Name())
		var list *[]string
		switch {
		case strings.HasPrefix(name, "."):
			continue
		case strings.HasSuffix(name, ".pem"), strings.HasSuffix(name, ".crt"), hashedCA.MatchString(name):
			list = &files.authorities
		case strings.HasSuffix(name, ".signing_policy"):
			list = &files.policies
		case hashedCRL.MatchString(name):
			list = &files.lists
		default:
			continue
		}
		// Between the listing and here a file can vanish; the next look sees why.
		if err := add(list, path); err != nil {
			return files, err
		}
	}
	for _, path := range o.TrustFiles {
		if err := add(&files.authorities, path); err != nil {
			return files, err
		}
	}
	return files, nil
}

// loadTrust reads the authorities and their policies: all of it, or an error.
func loadTrust(files trustFiles, own *ownSet, log *slog.Logger) (*trustSet, error) {
	set := &trustSet{
		own:   own,
		roots: x509.NewCertPool(), intermediates: x509.NewCertPool(),
		authorities: make(map[authorityID]*x509.Certificate),
		policies:    make(map[[sha256.Size]byte]*policy),
		named:       make(map[string][]authorityID),
	}
	var certs []*x509.Certificate
	stems := make(map[[sha256.Size]byte][]string) // of the files of a certificate
	for _, path := range files.authorities {
		found, err := readCertificates(path, log)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, cert := range found {
			sum := sha256.Sum256(cert.Raw)
			if stems[sum] == nil {
				certs = append(certs, cert)
			}
			stems[sum] = append(stems[sum], stem(path))
			set.named[stem(path)] = append(set.named[stem(path)], idOf(cert))
		}
	}
	for _, cert := range own.certificates() {
		if sum := sha256.Sum256(cert.Raw); stems[sum] == nil {
			certs = append(certs, cert)
			stems[sum] = []string{} // it has no file
		}
	}
	set.size = len(certs)
	bySubject := make(map[string][]*x509.Certificate)
	for _, cert := range certs {
		bySubject[string(cert.RawSubject)] = append(bySubject[string(cert.RawSubject)], cert)
	}
	for _, cert := range certs {
		issued := !bytes.Equal(cert.RawSubject, cert.RawIssuer) &&
			slices.ContainsFunc(bySubject[string(cert.RawIssuer)], func(issuer *x509.Certificate) bool {
				return cert.CheckSignatureFrom(issuer) == nil
			})
		if issued {
			set.intermediates.AddCert(cert)
		} else {
			set.roots.AddCert(cert)
		}
		if id := idOf(cert); set.authorities[id] == nil {
			set.authorities[id] = cert
		}
	}
	set.loadPolicies(files.policies, certs, stems, log)
	return set, nil
}

// readCertificates reads one file. A file that is half written is an error; a
// whole certificate that crypto/x509 will not have is left out, since directories
// of a hundred authorities have such.
func readCertificates(path string, log *slog.Logger) ([]*x509.Certificate, error) {
	raw, err := readFile(path, maxTrustFile)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	blocks := 0
	take := func(der []byte) error {
		cert, err := x509.ParseCertificate(der)
		if err == nil {
			certs = append(certs, cert)
			return nil
		}
		var whole asn1.RawValue
		if rest, bad := asn1.Unmarshal(der, &whole); bad != nil || len(rest) > 0 {
			return err
		}
		log.Warn("a certificate of an authority cannot be read, and the authority is not trusted", "file", path, "error", err)
		return nil
	}
	if len(raw) > 0 && raw[0] == 0x30 { // a SEQUENCE: DER
		return certs, errors.Join(take(raw), nil)
	}
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		blocks++
		if block.Type == "CERTIFICATE" {
			if err := take(block.Bytes); err != nil {
				return nil, err
			}
		}
	}
	if blocks == 0 || bytes.Contains(raw, []byte("-----BEGIN ")) {
		return nil, errors.New("there is no whole certificate in the file")
	}
	return certs, nil
}

// loadPolicies gives authorities their policies. A policy belongs to the authority that it
// names; a file beside a certificate, of the same name, has to have one for it.
func (set *trustSet) loadPolicies(paths []string, certs []*x509.Certificate, stems map[[sha256.Size]byte][]string, log *slog.Logger) {
	var entries []policyEntry
	unreadable := make(map[string]bool) // by stem
	present := make(map[string]bool)
	for _, path := range paths {
		stem := strings.TrimSuffix(path, ".signing_policy")
		present[stem] = true
		text, err := readFile(path, maxPolicySize)
		var found []policyEntry
		if err == nil {
			found, err = parsePolicy(text)
		}
		if err != nil {
			unreadable[stem] = true
			log.Error("a signing policy cannot be read: its authority may sign no name", "file", path, "error", err)
		}
		entries = append(entries, found...)
	}
	for _, cert := range certs {
		sum := sha256.Sum256(cert.Raw)
		name, err := oneLine(cert.RawSubject)
		var own *policy
		for _, e := range entries {
			if err == nil && slices.Equal(e.authority, name) {
				if own == nil {
					own = &policy{}
				}
				own.patterns = append(own.patterns, e.patterns...)
			}
		}
		beside := func(stem string) bool { return present[stem] }
		switch {
		case slices.ContainsFunc(stems[sum], func(stem string) bool { return unreadable[stem] }):
			own = &policy{}
		case own == nil && slices.ContainsFunc(stems[sum], beside):
			log.Error("the signing policy beside a certificate does not name its authority, which may sign no name",
				"authority", issuerName(cert))
			own = &policy{}
		case own == nil && len(paths) > 0 && cert.IsCA:
			log.Warn("an authority has no signing policy though others have, and may sign any name", "authority", issuerName(cert))
		}
		if own != nil {
			set.policies[sum] = own
		}
	}
}

// permits checks every name of a chain against the policy of who signed it. An authority without a policy
// of its own that was issued under one is bound by that: else a policy could be left by way of a subordinate authority.
func (set *trustSet) permits(chain []*x509.Certificate) bool {
	if len(set.policies) == 0 {
		return true
	}
	var in *policy
	for i := len(chain) - 1; i > 0; i-- {
		if own := set.policies[sha256.Sum256(chain[i].Raw)]; own != nil {
			in = own
		}
		if in == nil {
			continue
		}
		name, err := oneLine(chain[i-1].RawSubject)
		if err != nil || !in.allows(name) {
			return false
		}
	}
	return true
}
