package mysql

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"

	"bindery"
)

// The alias sets.
const (
	aliasJDBC       = "jdbc"
	aliasMinibroker = "minibroker"
	aliasSteeltoe   = "steeltoe"
)

// Render implements [bindery.AccountDriver]. No address turns on what would let
// a server read the client's files (LOCAL INFILE) or several statements at once.
func (d *driver) Render(spec bindery.InstanceSpec, account bindery.Account) (bindery.Credential, error) {
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Credential{}, err
	}
	port := strconv.Itoa(d.public.Port)
	address := net.JoinHostPort(d.public.Host, port)
	uri := func(scheme, query string) string {
		u := url.URL{Scheme: scheme, User: url.UserPassword(account.Name, m.Password), Host: address, Path: "/" + spec.Name, RawQuery: query}
		return u.String()
	}
	// Without TLS the clients of MySQL 8 need leave to ask the server for its key.
	query, r2dbc, java := "", "sslMode=disabled", url.Values{"sslMode": {"DISABLED"}, "allowPublicKeyRetrieval": {"true"}}
	if d.public.TLS {
		query, r2dbc, java = "ssl-mode=REQUIRED", "sslMode=required", url.Values{"sslMode": {"REQUIRED"}}
	}
	java.Set("user", account.Name)
	java.Set("password", m.Password)
	jdbc := fmt.Sprintf("jdbc:mysql://%s/%s?%s", address, spec.Name, java.Encode())
	object := map[string]any{
		"uri":       uri("mysql", query),
		"jdbc-url":  jdbc,
		"r2dbc-url": "r2dbc:" + uri("mysql", r2dbc),
		"host":      d.public.Host,
		"hostname":  d.public.Host,
		"port":      d.public.Port,
		"database":  spec.Name,
		"username":  account.Name,
		"password":  m.Password,
	}
	if d.public.TLS && d.public.CA != "" {
		object["ca.crt"] = d.public.CA
	}
	if slices.Contains(spec.Aliases, aliasJDBC) {
		object["jdbcUrl"] = jdbc
	}
	if slices.Contains(spec.Aliases, aliasMinibroker) {
		object["Protocol"], object["mysql-password"] = "mysql", m.Password
	}
	if slices.Contains(spec.Aliases, aliasSteeltoe) {
		object["name"] = spec.Name
	}
	return bindery.Credential{
		Object:    object,
		Endpoints: []bindery.Endpoint{{Host: d.public.Host, Ports: []string{port}, Protocol: "tcp"}},
	}, nil
}
