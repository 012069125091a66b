package redis

import (
	"net"
	"net/url"
	"slices"
	"strconv"

	"bindery"
)

// The alias sets: keys that some clients read besides.
const (
	aliasMinibroker = "minibroker" // Minibroker's
	aliasSpring     = "spring"     // Spring Cloud Bindings, which reads url too
	aliasSteeltoe   = "steeltoe"
)

// Render implements [bindery.AccountDriver].
func (d *driver) Render(spec bindery.InstanceSpec, account bindery.Account) (bindery.Credential, error) {
	plan, err := d.instance(spec)
	if err != nil {
		return bindery.Credential{}, err
	}
	if err := d.checkName(account.Name); err != nil {
		return bindery.Credential{}, err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Credential{}, err
	}
	public, password := d.server.Public, m.Password.Reveal()
	scheme := "redis"
	if public.TLS {
		scheme = "rediss"
	}
	uri := (&url.URL{
		Scheme: scheme, User: url.UserPassword(account.Name, password),
		Host: net.JoinHostPort(public.Host, strconv.Itoa(public.Port)), Path: "/0",
	}).String()
	object := map[string]any{
		"uri": uri, "url": uri, "host": public.Host, "port": public.Port,
		"username": account.Name, "password": password, "database": 0,
	}
	if public.TLS {
		object["tls_port"] = public.Port
		if public.CA != "" {
			object["ca.crt"] = public.CA
		}
	}
	if prefix := plan.prefix(spec.Name); prefix != everything {
		object["prefix"] = prefix
	}
	if slices.Contains(spec.Aliases, aliasMinibroker) {
		object["Protocol"] = scheme
		object["redis-password"] = password
		object["redis-uri"] = uri
	}
	if slices.Contains(spec.Aliases, aliasSpring) {
		object["ssl"] = public.TLS
	}
	if slices.Contains(spec.Aliases, aliasSteeltoe) {
		object["hostname"] = public.Host
	}
	return bindery.Credential{
		Object: object,
		Endpoints: []bindery.Endpoint{{
			Host: public.Host, Ports: []string{strconv.Itoa(public.Port)}, Protocol: "tcp",
		}},
	}, nil
}
