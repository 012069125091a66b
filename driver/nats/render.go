package nats

import (
	"net"
	"strconv"

	"bindery"
)

// Render implements [bindery.AccountDriver].
func (d *driver) Render(spec bindery.InstanceSpec, account bindery.Account) (bindery.Credential, error) {
	if _, err := d.instance(spec); err != nil {
		return bindery.Credential{}, err
	}
	if err := d.checkName(account.Name); err != nil {
		return bindery.Credential{}, err
	}
	m, err := parseMaterial(account.Material)
	if err != nil {
		return bindery.Credential{}, err
	}
	creds, err := m.credentials()
	if err != nil {
		return bindery.Credential{}, err
	}
	public := d.server.Public
	uri := clientURL(net.JoinHostPort(public.Host, strconv.Itoa(public.Port)), public.TLS)
	object := map[string]any{
		"uri": uri, "servers": []string{uri}, "host": public.Host, "port": public.Port,
		"creds": creds, "jwt": m.Token, "nkey_seed": m.Seed,
	}
	if public.TLS && public.CA != "" {
		object["ca.crt"] = public.CA
	}
	return bindery.Credential{
		Object: object,
		Endpoints: []bindery.Endpoint{{
			Host: public.Host, Ports: []string{strconv.Itoa(public.Port)}, Protocol: "tcp",
		}},
	}, nil
}

// clientURL is how NATS clients write an address.
func clientURL(address string, tls bool) string {
	if tls {
		return "tls://" + address
	}
	return "nats://" + address
}
