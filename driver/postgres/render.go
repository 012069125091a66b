package postgres

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"

	"bindery"
)

// The alias sets: keys that some clients read besides.
const (
	aliasJDBC       = "jdbc"
	aliasMinibroker = "minibroker"
	aliasSpring     = "spring" // java-cfenv; Spring Cloud Bindings finds all it reads without
	aliasSteeltoe   = "steeltoe"
)

// Render implements [bindery.AccountDriver].
func (d *driver) Render(spec bindery.InstanceSpec, account bindery.Account) (bindery.Credential, error) {
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Credential{}, err
	}
	// An address cannot carry a CA, and a client that was told to verify without
	// one refuses to connect; so addresses ask for TLS, and the key sslmode, beside
	// sslrootcert, asks for all of it.
	sslmode, verified := "disable", "disable"
	if d.public.TLS {
		sslmode, verified = "require", "require"
		if d.public.CA != "" {
			verified = "verify-full"
		}
	}
	port := strconv.Itoa(d.public.Port)
	address := net.JoinHostPort(d.public.Host, port)
	user := url.UserPassword(account.Name, m.Password)
	uri := func(scheme, parameter string) string {
		u := url.URL{Scheme: scheme, User: user, Host: address, Path: "/" + spec.Name, RawQuery: parameter + "=" + sslmode}
		return u.String()
	}
	jdbc := fmt.Sprintf("jdbc:postgresql://%s/%s?%s", address, spec.Name, url.Values{
		"user": {account.Name}, "password": {m.Password}, "sslmode": {sslmode},
	}.Encode())
	object := map[string]any{
		"uri":       uri("postgresql", "sslmode"),
		"jdbc-url":  jdbc,
		"r2dbc-url": "r2dbc:" + uri("postgresql", "sslMode"),
		"host":      d.public.Host,
		"hostname":  d.public.Host,
		"port":      d.public.Port,
		"database":  spec.Name,
		"db":        spec.Name,
		"username":  account.Name,
		"user":      account.Name,
		"password":  m.Password,
		"sslmode":   verified,
	}
	if d.public.TLS && d.public.CA != "" {
		object["sslrootcert"] = d.public.CA
	}
	if slices.Contains(spec.Aliases, aliasJDBC) || slices.Contains(spec.Aliases, aliasSpring) {
		object["jdbcUrl"] = jdbc
	}
	if slices.Contains(spec.Aliases, aliasMinibroker) {
		object["Protocol"] = "postgresql"
	}
	if slices.Contains(spec.Aliases, aliasSteeltoe) {
		object["name"] = spec.Name
	}
	return bindery.Credential{
		Object:    object,
		Endpoints: []bindery.Endpoint{{Host: d.public.Host, Ports: []string{port}, Protocol: "tcp"}},
	}, nil
}
