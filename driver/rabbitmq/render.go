package rabbitmq

import (
	"net"
	"net/url"
	"slices"
	"strconv"

	"bindery"
)

// aliasSpring is the alias set with the keys that Spring Boot reads where files
// of a binding are imported as properties (spring.config.import=configtree:…).
const aliasSpring = "spring"

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
	port := strconv.Itoa(public.Port)
	address := net.JoinHostPort(public.Host, port)
	login := url.UserPassword(account.Name, password)
	scheme, protocol := "amqp", "amqp"
	if public.TLS {
		scheme, protocol = "amqps", "amqp+ssl"
	}
	uri := (&url.URL{Scheme: scheme, User: login, Host: address, Path: "/" + spec.Name}).String()
	object := map[string]any{
		"uri": uri, "uris": []string{uri}, "addresses": address,
		"host": public.Host, "hostname": public.Host, "port": public.Port,
		"username": account.Name, "password": password,
		"vhost": spec.Name, "virtual-host": spec.Name, "ssl": public.TLS,
		"protocols": map[string]any{protocol: map[string]any{
			"uri": uri, "uris": []string{uri}, "host": public.Host, "hosts": []string{public.Host}, "port": public.Port,
			"username": account.Name, "password": password, "vhost": spec.Name, "ssl": public.TLS,
		}},
	}
	if public.TLS && public.CA != "" {
		object["ca.crt"] = public.CA
	}
	if plan.Management && d.settings.ManagementURL != nil {
		u := d.settings.ManagementURL.JoinPath("api/")
		u.User = login
		object["http_api_uri"] = u.String()
	}
	if slices.Contains(spec.Aliases, aliasSpring) {
		object["spring.rabbitmq.addresses"] = address
		object["spring.rabbitmq.username"] = account.Name
		object["spring.rabbitmq.password"] = password
		object["spring.rabbitmq.virtual-host"] = spec.Name
		object["spring.rabbitmq.ssl.enabled"] = public.TLS
	}
	return bindery.Credential{
		Object:    object,
		Endpoints: []bindery.Endpoint{{Host: public.Host, Ports: []string{port}, Protocol: "tcp"}},
	}, nil
}
