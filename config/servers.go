package config

import (
	"slices"
	"strings"
	"time"

	"bindery"
)

func (c *checker) serverList(list []Server) []bindery.Server {
	names, addresses := map[string]bool{}, map[string]string{}
	out := make([]bindery.Server, 0, len(list))
	for i := range list {
		s, p := &list[i], at("servers", i)
		c.own(p+".name", s.Name, names)
		kind, known := c.kinds[s.Kind]
		switch {
		case s.Kind == "":
			c.addf(p+".kind", "is missing: one of %s", c.kindNames())
		case !known:
			c.addf(p+".kind", "%.63q is none of %s", s.Kind, c.kindNames())
		case kind.CheckServer != nil:
			if err := kind.CheckServer(s.Settings.Raw()); err != nil {
				c.addf(p+".settings", "%v", err)
			}
		}
		secrets := c.secrets(p, s, kind)
		d := bindery.Server{
			Name: s.Name, Kind: s.Kind, Address: s.Address, Username: s.Username,
			Password: s.Password.Secret(), Timeout: s.Timeout, Settings: s.Settings.Raw(), Secrets: secrets,
		}
		switch {
		case kind.Local:
			if s.Address != "" || s.Username != "" || s.TLS != nil {
				c.addf(p, "kind %s is its own server: address, username and tls make no sense", s.Kind)
			}
		case c.address(p+".address", s.Address, false):
			// Two names for one server would each take the other's accounts for strays.
			key := s.Kind + " " + strings.ToLower(s.Address)
			if other, taken := addresses[key]; taken {
				c.addf(p+".address", "is the address of server %s too", other)
			}
			addresses[key] = s.Name
			if s.TLS == nil && !loopback(s.Address) {
				c.warnf("server %s is administered without TLS", s.Name)
			}
		}
		c.between(p+".timeout", s.Timeout, 100*time.Millisecond, time.Hour)
		d.TLS = c.serverTLS(p+".tls", s.Name, s.TLS)
		c.public(p+".public", s.Public, &d)
		out = append(out, d)
	}
	return out
}

// secrets returns a server's secrets by name.
func (c *checker) secrets(p string, s *Server, kind bindery.Kind) map[string]bindery.Secret {
	out := make(map[string]bindery.Secret, len(s.Secrets))
	for i, n := range s.Secrets {
		at := at(p+".secrets", i)
		switch _, twice := out[n.Name]; {
		case n.Name == "":
			c.addf(at+".name", "is missing")
		case twice:
			c.addf(at+".name", "%.63q is given twice", n.Name)
		case !n.Value.Set():
			c.addf(at+".value", "is missing")
		}
		out[n.Name] = n.Value.Secret()
	}
	switch {
	case kind.CheckSecrets != nil:
		if err := kind.CheckSecrets(s.Password.Secret(), out); err != nil {
			c.addf(p, "%v", err)
		}
	case len(out) > 0 && s.Kind != "":
		c.addf(p+".secrets", "kind %s takes none", s.Kind)
	}
	return out
}

func (c *checker) serverTLS(p, name string, t *ServerTLS) *bindery.ServerTLS {
	if t == nil {
		return nil
	}
	t.CAFile, t.CertFile, t.KeyFile = c.abs(t.CAFile), c.abs(t.CertFile), c.abs(t.KeyFile)
	c.caFile(p+".ca_file", t.CAFile)
	c.keyPair(p, t.CertFile, t.KeyFile, false)
	if t.InsecureSkipVerify {
		c.warnf("server %s: its certificate is not verified (insecure_skip_verify)", name)
	}
	out := bindery.ServerTLS(*t)
	return &out
}

func (c *checker) public(p string, pub Public, d *bindery.Server) {
	if pub.Host != "" {
		d.Public.Host = pub.Host
		if strings.ContainsAny(pub.Host, "/@ ") || hasControl(pub.Host) {
			c.addf(p+".host", "must be a host name or an address, without a port")
		}
	}
	if pub.Port != 0 {
		d.Public.Port = pub.Port
		c.within(p+".port", int64(pub.Port), 1, 65535)
	}
	d.Public.TLS = d.TLS != nil
	if pub.TLS != nil {
		d.Public.TLS = *pub.TLS
	}
	if pub.CAFile != "" && !d.Public.TLS {
		c.addf(p+".ca_file", "makes no sense without tls")
	}
	d.Public.CA = c.caFile(p+".ca_file", c.abs(pub.CAFile))
}

func (c *checker) kindNames() string {
	names := make([]string, 0, len(c.kinds))
	for k := range c.kinds {
		names = append(names, k)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}
