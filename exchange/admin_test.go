package exchange_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"bindery"
	"bindery/exchange"
)

func TestServiceTypeIsChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *exchange.Options) {
		o.Reserved = func(name string) bool { return name == "redis" }
	})
	w.service("st1", "h1")
	type in = exchange.ServiceTypeInput
	const missing = "service-type object contains empty fields. empty value for field: "
	tests := map[string]struct {
		change func(*in)
		code   bindery.Code
		want   string
	}{
		"no name":                     {func(i *in) { i.Name, i.Hosts, i.Type = nil, nil, nil }, bindery.CodeInvalid, missing + "name"},
		"empty name":                  {func(i *in) { i.Name = ptr("") }, bindery.CodeInvalid, missing + "name"},
		"no hosts":                    {func(i *in) { i.Hosts, i.AuthTypes = nil, nil }, bindery.CodeInvalid, missing + "hosts"},
		"empty hosts":                 {func(i *in) { i.Hosts = &[]string{} }, bindery.CodeInvalid, missing + "hosts"},
		"an empty host":               {func(i *in) { i.Hosts = &[]string{"h", ""} }, bindery.CodeInvalid, missing + "hosts"},
		"no auth types":               {func(i *in) { i.AuthTypes, i.AuthMethod = nil, nil }, bindery.CodeInvalid, missing + "auth_types"},
		"no auth method":              {func(i *in) { i.AuthMethod, i.Type = nil, nil }, bindery.CodeInvalid, missing + "auth_method"},
		"no type":                     {func(i *in) { i.Type = nil; i.AuthTypes = &[]string{"kerberos"} }, bindery.CodeInvalid, missing + "type"},
		"empty auth types":            {func(i *in) { i.AuthTypes = &[]string{} }, bindery.CodeInvalid, "auth_types: empty is not yet supported.Supported:[x509 oidc]"},
		"unknown auth type":           {func(i *in) { i.AuthTypes = &[]string{"x509", "kerberos"} }, bindery.CodeInvalid, "auth_types: kerberos is not yet supported.Supported:[x509 oidc]"},
		"unknown auth method":         {func(i *in) { i.AuthMethod = ptr("basic") }, bindery.CodeInvalid, "auth_method: basic is not yet supported.Supported:[api-key headers]"},
		"unknown type":                {func(i *in) { i.Type = ptr("mq") }, bindery.CodeInvalid, "type: mq is not yet supported.Supported:[ams web-api custom]"},
		"a type as long as a body":    {func(i *in) { i.Type = ptr(strings.Repeat("<", 1<<20)) }, bindery.CodeInvalid, "type: a value that is longer than 256 bytes is not yet supported.Supported:[ams web-api custom]"},
		"taken, but unsupported":      {func(i *in) { i.Name, i.Type = ptr("st1"), ptr("mq") }, bindery.CodeInvalid, "type: mq is not yet supported.Supported:[ams web-api custom]"},
		"taken":                       {func(i *in) { i.Name = ptr("st1") }, bindery.CodeConflict, "service-type object with name: st1 already exists"},
		"an offering's name":          {func(i *in) { i.Name = ptr("redis") }, bindery.CodeConflict, "service-type object with name: redis cannot be: a service offering has this name"},
		"a name that no path reaches": {func(i *in) { i.Name = ptr("..") }, bindery.CodeInvalid, "service-type object contains an invalid value for field: name. It cannot be named in a path"},
		"a host that no path reaches": {func(i *in) { i.Hosts = &[]string{"h", ".."} }, bindery.CodeInvalid, "service-type object contains an invalid value for field: hosts. It cannot be named in a path"},
		"a host with a path":          {func(i *in) { i.Hosts = &[]string{"h/x"} }, bindery.CodeInvalid, "service-type object contains an invalid value for field: hosts. It is no host name or address"},
		"a host with a port":          {func(i *in) { i.Hosts = &[]string{"h:443"} }, bindery.CodeInvalid, "service-type object contains an invalid value for field: hosts. It is no host name or address"},
		"a host with a user":          {func(i *in) { i.Hosts = &[]string{"a@h"} }, bindery.CodeInvalid, "service-type object contains an invalid value for field: hosts. It is no host name or address"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := serviceInput("new", "h1")
			tt.change(&i)
			_, err := w.CreateServiceType(t.Context(), admin, i)
			refused(t, err, tt.code, tt.want)
		})
	}
}

func TestServiceTypeLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	made := w.service("a/b c", "h1", "h2", "h1")
	if !slices.Equal(made.Hosts, []string{"h1", "h2"}) || made.UUID == "" || made.Created.IsZero() || !made.Updated.IsZero() {
		t.Errorf("got %+v", made)
	}
	w.service("other", "h1")
	_, err := w.UpdateServiceType(ctx, admin, "a/b c", exchange.ServiceTypeInput{Name: ptr("other")})
	refused(t, err, bindery.CodeConflict, "service-type object with name: other already exists")
	_, err = w.UpdateServiceType(ctx, admin, "a/b c", exchange.ServiceTypeInput{AuthTypes: &[]string{}})
	refused(t, err, bindery.CodeInvalid, "auth_types: empty is not yet supported.Supported:[x509 oidc]")
	_, err = w.UpdateServiceType(ctx, admin, "none", exchange.ServiceTypeInput{})
	refused(t, err, bindery.CodeNotFound, "Service-type was not found")
	// type is not changeable.
	got := must(w.UpdateServiceType(ctx, admin, "a/b c", exchange.ServiceTypeInput{Name: ptr("a"), Hosts: &[]string{"h3"}, Type: ptr("web-api")}))(t)
	if got.Name != "a" || got.Type != "ams" || got.UUID != made.UUID || got.Updated.IsZero() || !slices.Equal(got.Hosts, []string{"h3"}) {
		t.Errorf("got %+v", got)
	}
	if again := must(w.ServiceType(ctx, admin, "a"))(t); again.Revision != got.Revision || again.Name != "a" {
		t.Errorf("got %+v, want %+v", again, got)
	}
	if err := w.DeleteServiceType(ctx, admin, "a"); err != nil {
		t.Fatal(err)
	}
	_, err = w.ServiceType(ctx, admin, "a")
	refused(t, err, bindery.CodeNotFound, "Service-type was not found")
	refused(t, w.DeleteServiceType(ctx, admin, "a"), bindery.CodeNotFound, "Service-type was not found")
}

func TestAuthMethodIsChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.service("st1", "h1", "h2")
	i := serviceInput("st2", "h1")
	i.AuthMethod = ptr("headers")
	must(w.CreateServiceType(t.Context(), admin, i))(t)
	w.method("st1", "h1", 443)
	type in = exchange.AuthMethodInput
	const missing = "auth method object contains empty fields. empty value for field: "
	tests := map[string]struct {
		service string
		in      in
		code    bindery.Code
		want    string
	}{
		"unknown service type": {"none", in{}, bindery.CodeNotFound, "Service-type was not found"},
		"no port":              {"st1", in{}, bindery.CodeInvalid, missing + "port"},
		"port 0":               {"st1", in{Port: ptr(0), Host: ptr("h2")}, bindery.CodeInvalid, missing + "port"},
		"no host":              {"st1", in{Port: ptr(1)}, bindery.CodeInvalid, missing + "host"},
		"no key":               {"st1", in{Port: ptr(1), Host: ptr("none"), Headers: &map[string]string{"a": "b"}}, bindery.CodeInvalid, missing + "access_key"},
		"a hidden key":         {"st1", in{Port: ptr(1), Host: ptr("h2"), AccessKey: ptr("***")}, bindery.CodeInvalid, missing + "access_key"},
		"no headers":           {"st2", in{Port: ptr(1), Host: ptr("h1"), AccessKey: ptr("k")}, bindery.CodeInvalid, missing + "headers"},
		"empty headers":        {"st2", in{Port: ptr(1), Host: ptr("h1"), Headers: &map[string]string{}}, bindery.CodeInvalid, missing + "headers"},
		"a hidden header":      {"st2", in{Port: ptr(1), Host: ptr("h1"), Headers: &map[string]string{"a": "***"}}, bindery.CodeInvalid, missing + "headers"},
		"a header's end":       {"st2", in{Port: ptr(1), Host: ptr("h1"), Headers: &map[string]string{"a": "b\r\nc: d"}}, bindery.CodeInvalid, "auth method object contains an invalid value for field: headers. It has a value that no header can carry"},
		"a header's name":      {"st2", in{Port: ptr(1), Host: ptr("h1"), Headers: &map[string]string{"a:b": "c"}}, bindery.CodeInvalid, "auth method object contains an invalid value for field: headers. It has a name that is none of a header"},
		"a Host that is none":  {"st2", in{Port: ptr(1), Host: ptr("h1"), Headers: &map[string]string{"host": "a/b"}}, bindery.CodeInvalid, "auth method object contains an invalid value for field: headers. It has a value that no header can carry"},
		"a header twice":       {"st2", in{Port: ptr(1), Host: ptr("h1"), Headers: &map[string]string{"x-a": "c", "X-A": "d"}}, bindery.CodeInvalid, "auth method object contains an invalid value for field: headers. It has one header twice"},
		"port too high":        {"st1", in{Port: ptr(70000), Host: ptr("h2"), AccessKey: ptr("k")}, bindery.CodeInvalid, "auth method object contains an invalid value for field: port. It is not between 1 and 65535"},
		"unknown host":         {"st1", in{Port: ptr(1), Host: ptr("h3"), AccessKey: ptr("k")}, bindery.CodeNotFound, "Host was not found"},
		"taken":                {"st1", in{Port: ptr(1), Host: ptr("h1"), AccessKey: ptr("k")}, bindery.CodeConflict, "Auth method object with host: h1 already exists"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := w.CreateAuthMethod(t.Context(), admin, tt.service, tt.in)
			refused(t, err, tt.code, tt.want)
		})
	}
}

// material reads what an auth method holds.
func material(t testing.TB, m bindery.AuthMethod) (key string, headers map[string]string) {
	t.Helper()
	var got struct {
		AccessKey string            `json:"access_key"`
		Headers   map[string]string `json:"headers"`
	}
	if err := json.Unmarshal([]byte(m.Material.Reveal()), &got); err != nil {
		t.Fatal(err)
	}
	return got.AccessKey, got.Headers
}

func TestAuthMethodLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	w.service("st1", "h1", "h2")
	i := serviceInput("st2", "h1")
	i.AuthMethod = ptr("headers")
	st2 := must(w.CreateServiceType(ctx, admin, i))(t)
	made := w.method("st1", "h1", 443)
	w.method("st1", "h2", 444)
	type in = exchange.AuthMethodInput

	// The PUT that the old service always failed.
	got := must(w.UpdateAuthMethod(ctx, admin, "st1", "h1", in{Port: ptr(8443), AccessKey: ptr("***")}))(t)
	if key, _ := material(t, got); key != accessKey || got.Port != 8443 || got.UUID != made.UUID || got.Updated.IsZero() {
		t.Errorf("got key %q of %+v", key, got)
	}
	got = must(w.UpdateAuthMethod(ctx, admin, "st1", "h1", in{AccessKey: ptr("another")}))(t)
	again := must(w.AuthMethod(ctx, admin, "st1", "h1"))(t)
	if key, _ := material(t, again); key != "another" || again.Port != 8443 || again.Revision != got.Revision {
		t.Errorf("got key %q of %+v", key, again)
	}
	_, err := w.UpdateAuthMethod(ctx, admin, "st1", "h1", in{AccessKey: ptr("")})
	refused(t, err, bindery.CodeInvalid, "auth method object contains empty fields. empty value for field: access_key")
	_, err = w.UpdateAuthMethod(ctx, admin, "st1", "h1", in{Host: ptr("h2")})
	refused(t, err, bindery.CodeConflict, "Auth method object with host: h2 already exists")
	_, err = w.UpdateAuthMethod(ctx, admin, "st1", "h1", in{Host: ptr("h3")})
	refused(t, err, bindery.CodeNotFound, "Host was not found")
	_, err = w.UpdateAuthMethod(ctx, admin, "st1", "h1", in{ServiceUUID: ptr("none")})
	refused(t, err, bindery.CodeNotFound, "Service-type was not found")
	_, err = w.AuthMethod(ctx, admin, "st1", "h3")
	refused(t, err, bindery.CodeNotFound, "Host was not found")
	_, err = w.AuthMethod(ctx, admin, "st2", "h1")
	refused(t, err, bindery.CodeNotFound, "Auth method was not found")

	// A move to a service type of another kind needs what that kind needs.
	_, err = w.UpdateAuthMethod(ctx, admin, "st1", "h1", in{ServiceUUID: &st2.UUID})
	refused(t, err, bindery.CodeInvalid, "auth method object contains empty fields. empty value for field: headers")
	got = must(w.UpdateAuthMethod(ctx, admin, "st1", "h1", in{ServiceUUID: &st2.UUID, Headers: &map[string]string{"X-Key": headerSecret, "b": "c"}}))(t)
	if key, headers := material(t, got); key != "" || headers["X-Key"] != headerSecret || got.Kind != bindery.AuthMethodHeaders {
		t.Errorf("got %q, %v", key, headers)
	}
	got = must(w.UpdateAuthMethod(ctx, admin, "st2", "h1", in{Headers: &map[string]string{"X-Key": "***", "d": "e"}}))(t)
	if _, headers := material(t, got); headers["X-Key"] != headerSecret || headers["d"] != "e" || len(headers) != 2 {
		t.Errorf("got %v", headers)
	}

	if all := must(w.AuthMethods(ctx, admin, bindery.Page{}))(t); len(all) != 2 {
		t.Errorf("got %d auth methods, want 2", len(all))
	}
	// One on a host that its service type has no more can still be seen and removed.
	must(w.UpdateServiceType(ctx, admin, "st2", exchange.ServiceTypeInput{Hosts: &[]string{"h9"}}))(t)
	must(w.AuthMethod(ctx, admin, "st2", "h1"))(t)
	if err := w.DeleteAuthMethod(ctx, admin, "st2", "h1"); err != nil {
		t.Error(err)
	}
	refused(t, w.DeleteAuthMethod(ctx, admin, "st2", "h1"), bindery.CodeNotFound, "Host was not found")
}

func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *exchange.Options) { o.HideSecrets = true })
	open := worldOn(t, w.store)
	ctx := t.Context()
	i := serviceInput("st1", "h1")
	i.AuthMethod = ptr("headers")
	must(w.CreateServiceType(ctx, admin, i))(t)
	made := must(w.CreateAuthMethod(ctx, admin, "st1", exchange.AuthMethodInput{Port: ptr(1), Host: ptr("h1"), Headers: &map[string]string{"X-Key": headerSecret}}))(t)
	reader := exchange.Caller{Name: "dashboard", ReadOnly: true}
	all := []bindery.AuthMethod{
		made, must(w.AuthMethod(ctx, admin, "st1", "h1"))(t), must(w.AuthMethods(ctx, admin, bindery.Page{}))(t)[0],
		must(w.UpdateAuthMethod(ctx, admin, "st1", "h1", exchange.AuthMethodInput{Port: ptr(1), Headers: &map[string]string{"X-Key": "***"}}))(t),
		must(open.AuthMethod(ctx, reader, "st1", "h1"))(t), must(open.AuthMethods(ctx, reader, bindery.Page{}))(t)[0],
	}
	for n, m := range all {
		if got := m.Material.Reveal(); got != `{"headers":{"X-Key":"***"}}` {
			t.Errorf("%d: got %s", n, got)
		}
	}
	// It goes nowhere else, where somebody could read it, unless it is known.
	for _, in := range []exchange.AuthMethodInput{
		{Port: ptr(2)},
		{Host: ptr("h2")},
		{Port: ptr(2), AccessKey: ptr("other")},
		{Port: ptr(2), Headers: &map[string]string{"X-Key": "***", "X-More": "more"}},
	} {
		_, err := w.UpdateAuthMethod(ctx, admin, "st1", "h1", in)
		refused(t, err, bindery.CodeInvalid, "auth method object has another host or port. Where secrets are hidden, it needs its access_key or headers anew")
	}
	must(w.UpdateAuthMethod(ctx, admin, "st1", "h1", exchange.AuthMethodInput{Port: ptr(2), Headers: &map[string]string{"X-Key": headerSecret}}))(t)
	must(open.UpdateAuthMethod(ctx, admin, "st1", "h1", exchange.AuthMethodInput{Port: ptr(1)}))(t)
	// What is hidden is still what is kept.
	if _, headers := material(t, must(open.AuthMethod(ctx, admin, "st1", "h1"))(t)); headers["X-Key"] != headerSecret {
		t.Errorf("got %v", headers)
	}
}

func TestBindingIsChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	i := serviceInput("st1", "h1", "h2")
	i.AuthTypes = &[]string{"x509"}
	st1 := must(w.CreateServiceType(t.Context(), admin, i))(t)
	w.binding("b1", st1, "h1", "CN=alice,O=Example")
	type in = exchange.BindingInput
	const missing = "binding object contains empty fields. empty value for field: "
	own := who(t, "CN=own,O=Example")
	tests := map[string]struct {
		name   string
		change func(*in)
		code   bindery.Code
		want   string
	}{
		"no name":                          {"", func(i *in) { i.Host = nil }, bindery.CodeInvalid, missing + "name"},
		"no service":                       {"n", func(i *in) { i.ServiceUUID, i.Host = nil, nil }, bindery.CodeInvalid, missing + "service_uuid"},
		"no host":                          {"n", func(i *in) { i.Host, i.Identifier = ptr(""), nil }, bindery.CodeInvalid, missing + "host"},
		"no identifier":                    {"n", func(i *in) { i.Identifier, i.UniqueKey = nil, nil }, bindery.CodeInvalid, missing + "auth_identifier"},
		"no unique key":                    {"n", func(i *in) { i.UniqueKey, i.AuthType = nil, nil }, bindery.CodeInvalid, missing + "unique_key"},
		"no auth type":                     {"n", func(i *in) { i.AuthType = nil; i.ServiceUUID = ptr("none") }, bindery.CodeInvalid, missing + "auth_type"},
		"unknown service":                  {"n", func(i *in) { i.ServiceUUID = ptr("none") }, bindery.CodeNotFound, "Service-type was not found"},
		"auth type that it lacks":          {"n", func(i *in) { i.AuthType = ptr("oidc") }, bindery.CodeInvalid, "Auth type: oidc is not yet supported.Supported:[x509]"},
		"unknown auth type":                {"n", func(i *in) { i.AuthType, i.Host = ptr("kerberos"), ptr("none") }, bindery.CodeInvalid, "Auth type: kerberos is not yet supported.Supported:[x509]"},
		"unknown host":                     {"n", func(i *in) { i.Host = ptr("h3") }, bindery.CodeNotFound, "Host was not found"},
		"identifier taken, and the name":   {"b1", func(i *in) { i.Identifier = ptr("CN=alice,O=Example") }, bindery.CodeConflict, "binding object with auth_identifier: CN=alice,O=Example already exists"},
		"identifier taken, spelled anew":   {"n", func(i *in) { i.Identifier = ptr("/O=Example/CN=alice") }, bindery.CodeConflict, "binding object with auth_identifier: /O=Example/CN=alice already exists"},
		"name taken":                       {"b1", func(*in) {}, bindery.CodeConflict, "binding object with name: b1 already exists"},
		"an issuer that is no name":        {"n", func(i *in) { i.Issuer = ptr("somebody") }, bindery.CodeInvalid, "binding object contains an invalid value for field: issuer. It is not a distinguished name"},
		"a unique key that climbs":         {"n", func(i *in) { i.UniqueKey = ptr("..") }, bindery.CodeInvalid, "binding object contains an invalid value for field: unique_key. It cannot be named in a path"},
		"a name with a control character":  {"a\nb", func(*in) {}, bindery.CodeInvalid, "binding object contains an invalid value for field: name. It has control characters"},
		"an identifier of nothing but air": {"n", func(i *in) { i.Identifier = ptr("  ") }, bindery.CodeInvalid, "auth_identifier is empty"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := bindingInput(st1, "h1", "CN=new,O=Example")
			tt.change(&i)
			_, err := w.CreateBinding(t.Context(), admin, tt.name, i, nil)
			refused(t, err, tt.code, tt.want)
		})
	}
	t.Run("an identity of one's own", func(t *testing.T) {
		t.Parallel()
		i := bindingInput(st1, "h2", "")
		_, err := w.CreateBinding(t.Context(), admin, "own", i, &own)
		refused(t, err, bindery.CodeInvalid, missing+"auth_identifier") // it was sent, and is empty
		i.Identifier = nil
		b := must(w.CreateBinding(t.Context(), admin, "own", i, &own))(t)
		if b.Identifier != own.Name || b.Keys.Exact != own.Keys.Exact {
			t.Errorf("got %+v", b)
		}
		found := must(w.BindingsOf(t.Context(), admin, "st1", "h2", "/O=Example/CN=own", bindery.Page{}))(t)
		if len(found) != 1 || found[0].Name != "own" {
			t.Errorf("got %+v", found)
		}
	})
}

func TestBindingLives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(o *exchange.Options) {
		o.OIDCIdentifier = func(text string) (string, error) {
			if !strings.Contains(text, "#") {
				text = "https://login.example#" + text
			}
			return text, nil
		}
	})
	ctx := t.Context()
	st1, st2 := w.service("st1", "h1", "h2"), w.service("st2", "h1")
	w.binding("b1", st1, "h1", "CN=alice")
	w.binding("b2", st1, "h2", "CN=alice") // the same identifier on another host
	w.binding("b3", st2, "h1", "CN=alice") // and of another service type
	type in = exchange.BindingInput
	update := func(name string, i in) (bindery.IdentityBinding, error) { return w.UpdateBinding(ctx, admin, name, i) }

	// Moving to where the identifier is, which the old service did not check.
	_, err := update("b2", in{Host: ptr("h1")})
	refused(t, err, bindery.CodeConflict, "binding object with auth_identifier: CN=alice already exists")
	_, err = update("b3", in{ServiceUUID: &st1.UUID})
	refused(t, err, bindery.CodeConflict, "binding object with auth_identifier: CN=alice already exists")
	_, err = update("b2", in{Name: ptr("b1")})
	refused(t, err, bindery.CodeConflict, "binding object with name: b1 already exists")
	_, err = update("b2", in{Host: ptr("h3")})
	refused(t, err, bindery.CodeNotFound, "Host was not found")
	_, err = update("b2", in{ServiceUUID: &st2.UUID}) // which has no h2
	refused(t, err, bindery.CodeNotFound, "Host was not found")
	_, err = update("b2", in{ServiceUUID: ptr("none")})
	refused(t, err, bindery.CodeNotFound, "Service-type was not found")
	_, err = update("b2", in{UniqueKey: ptr("")})
	refused(t, err, bindery.CodeInvalid, "binding object contains empty fields. empty value for field: unique_key")
	_, err = update("none", in{UniqueKey: ptr("")})
	refused(t, err, bindery.CodeNotFound, "Binding was not found")

	// The PUT of unique_key, which the old service answered and did not store.
	got := must(update("b2", in{UniqueKey: ptr("uid-2"), Name: ptr("b2 new"), Issuer: ptr("/O=Grid/CN=CA")}))(t)
	again := must(w.Binding(ctx, admin, "b2 new"))(t)
	if again.UniqueKey != "uid-2" || again.UUID != got.UUID || again.Issuer != "/O=Grid/CN=CA" || again.IssuerKey != issuerKey(t, "CN=CA,O=Grid") {
		t.Errorf("got %+v", again)
	}
	if got = must(update("b2 new", in{Issuer: ptr("")}))(t); got.Issuer != "" || got.IssuerKey != "" {
		t.Errorf("got %+v", got)
	}
	// Another way of proof: the identifier means something else.
	got = must(update("b2 new", in{AuthType: ptr("oidc"), Identifier: ptr("sub-1")}))(t)
	want := must(bindery.IdentifierKeys(bindery.AuthOIDC, "https://login.example#sub-1"))(t)
	if got.Keys != want || got.Identifier != "sub-1" {
		t.Errorf("got %+v, want keys %+v", got, want)
	}
	_, err = update("b2 new", in{Issuer: ptr("CN=CA")})
	refused(t, err, bindery.CodeInvalid, "binding object contains an invalid value for field: issuer. It pins the authority of certificates, which this auth_type has none of")
	for _, spelling := range []string{"sub-1", "https://login.example#sub-1"} {
		if found := must(w.BindingsOf(ctx, admin, "st1", "h2", spelling, bindery.Page{}))(t); len(found) != 1 || found[0].Name != "b2 new" {
			t.Errorf("%s: got %+v", spelling, found)
		}
	}

	_, err = w.BindingsOf(ctx, admin, "st1", "h1", "CN=bob", bindery.Page{})
	refused(t, err, bindery.CodeNotFound, "Binding was not found")
	_, err = w.BindingsOf(ctx, admin, "st1", "h9", "", bindery.Page{})
	refused(t, err, bindery.CodeNotFound, "Host was not found")
	_, err = w.BindingsOf(ctx, admin, "none", "h1", "", bindery.Page{})
	refused(t, err, bindery.CodeNotFound, "Service-type was not found")
	if found := must(w.BindingsOf(ctx, admin, "st1", "h1", "", bindery.Page{}))(t); len(found) != 1 || found[0].Name != "b1" {
		t.Errorf("got %+v", found)
	}

	// A binding on a host that is no more one can be changed, and moved away.
	must(w.UpdateServiceType(ctx, admin, "st1", exchange.ServiceTypeInput{Hosts: &[]string{"h2"}}))(t)
	must(update("b1", in{UniqueKey: ptr("uid-9")}))(t)
	must(update("b1", in{Host: ptr("h2")}))(t)
	// Deleting a service type deletes all its bindings, and frees their names.
	if err := w.DeleteServiceType(ctx, admin, "st1"); err != nil {
		t.Fatal(err)
	}
	if all := must(w.Bindings(ctx, admin, bindery.Page{}))(t); len(all) != 1 || all[0].Name != "b3" {
		t.Errorf("got %+v", all)
	}
	w.binding("b1", st2, "h1", "CN=bob")
	if err := w.DeleteBinding(ctx, admin, "b1"); err != nil {
		t.Fatal(err)
	}
	refused(t, w.DeleteBinding(ctx, admin, "b1"), bindery.CodeNotFound, "Binding was not found")
}

func TestCallersMayNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	mine, theirs := w.service("mine", "h1"), w.service("theirs", "h1")
	w.method("mine", "h1", 1)
	w.method("theirs", "h1", 1)
	w.binding("b-mine", mine, "h1", "CN=alice")
	w.binding("b-theirs", theirs, "h1", "CN=alice")
	limited := exchange.Caller{Name: "limited", Services: []string{"mine", "mine too", "mine"}}
	const other = "This key is limited to other service types"
	no := func(name string, err error) {
		t.Helper()
		if bindery.CodeOf(err) != bindery.CodeForbidden || bindery.MessageOf(err) != other {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err := w.CreateServiceType(ctx, limited, serviceInput("new", "h1"))
	no("create a service type", err)
	_, err = w.ServiceType(ctx, limited, "theirs")
	no("see a service type", err)
	_, err = w.ServiceType(ctx, limited, "unknown")
	no("see whether there is a service type", err)
	_, err = w.UpdateServiceType(ctx, limited, "theirs", exchange.ServiceTypeInput{})
	no("update a service type", err)
	_, err = w.UpdateServiceType(ctx, limited, "mine", exchange.ServiceTypeInput{Name: ptr("new")})
	no("rename a service type", err)
	no("delete a service type", w.DeleteServiceType(ctx, limited, "theirs"))
	_, err = w.CreateAuthMethod(ctx, limited, "theirs", exchange.AuthMethodInput{})
	no("create an auth method", err)
	_, err = w.AuthMethod(ctx, limited, "theirs", "h1")
	no("see an auth method", err)
	_, err = w.UpdateAuthMethod(ctx, limited, "theirs", "h1", exchange.AuthMethodInput{})
	no("update an auth method", err)
	_, err = w.UpdateAuthMethod(ctx, limited, "mine", "h1", exchange.AuthMethodInput{ServiceUUID: &theirs.UUID})
	no("move an auth method", err)
	no("delete an auth method", w.DeleteAuthMethod(ctx, limited, "theirs", "h1"))
	_, err = w.CreateBinding(ctx, limited, "new", bindingInput(theirs, "h1", "CN=bob"), nil)
	no("create a binding", err)
	_, err = w.Binding(ctx, limited, "b-theirs")
	no("see a binding", err)
	_, err = w.UpdateBinding(ctx, limited, "b-theirs", exchange.BindingInput{ServiceUUID: &mine.UUID})
	no("move a binding here", err)
	_, err = w.UpdateBinding(ctx, limited, "b-mine", exchange.BindingInput{ServiceUUID: &theirs.UUID})
	no("move a binding there", err)
	no("delete a binding", w.DeleteBinding(ctx, limited, "b-theirs"))
	_, err = w.BindingsOf(ctx, limited, "theirs", "h1", "", bindery.Page{})
	no("list a service type's bindings", err)

	types := must(w.ServiceTypes(ctx, limited, bindery.Page{}))(t)
	methods := must(w.AuthMethods(ctx, limited, bindery.Page{}))(t)
	bindings := must(w.Bindings(ctx, limited, bindery.Page{}))(t)
	if len(types) != 1 || types[0].Name != "mine" || len(methods) != 1 || methods[0].ServiceUUID != mine.UUID || len(bindings) != 1 || bindings[0].Name != "b-mine" {
		t.Errorf("lists are not narrowed: %v, %v, %v", types, methods, bindings)
	}
	if rest := must(w.ServiceTypes(ctx, limited, bindery.Page{After: mine.Row}))(t); len(rest) != 0 {
		t.Errorf("got %v after the last", rest)
	}
	nothing := exchange.Caller{Name: "nothing", Services: []string{}}
	if n := len(must(w.AuthMethods(ctx, nothing, bindery.Page{}))(t)) + len(must(w.Bindings(ctx, nothing, bindery.Page{}))(t)) + len(must(w.ServiceTypes(ctx, nothing, bindery.Page{}))(t)); n != 0 {
		t.Errorf("a key for no service type sees %d things", n)
	}
	// What it is limited to, it may do all of.
	must(w.UpdateServiceType(ctx, limited, "mine", exchange.ServiceTypeInput{Name: ptr("mine too")}))(t)
	must(w.UpdateBinding(ctx, limited, "b-mine", exchange.BindingInput{UniqueKey: ptr("k")}))(t)
	if err := w.DeleteServiceType(ctx, limited, "mine too"); err != nil {
		t.Error(err)
	}
	must(w.CreateServiceType(ctx, limited, serviceInput("mine", "h1")))(t)

	reader := exchange.Caller{Name: "reader", ReadOnly: true}
	_, err = w.CreateServiceType(ctx, reader, serviceInput("new", "h1"))
	refused(t, err, bindery.CodeForbidden, "This key may only read")
	_, err = w.UpdateBinding(ctx, reader, "b-theirs", exchange.BindingInput{})
	refused(t, err, bindery.CodeForbidden, "This key may only read")
	refused(t, w.DeleteBinding(ctx, reader, "b-theirs"), bindery.CodeForbidden, "This key may only read")
	must(w.Binding(ctx, reader, "b-theirs"))(t)
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var want []string
	for _, name := range []string{"c", "a", "b"} {
		w.service(name, "h1")
		want = append(want, name)
	}
	for _, by := range []exchange.Caller{admin, {Name: "l", Services: []string{"a", "b", "c"}}} {
		var got []string
		p := bindery.Page{Limit: 2}
		for {
			page := must(w.ServiceTypes(t.Context(), by, p))(t)
			for _, s := range page {
				got = append(got, s.Name)
				p.After = s.Row
			}
			if len(page) < p.Limit {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", by.Name, got, want)
		}
	}
}

func TestChangesAreAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx := t.Context()
	s := w.service("st1", "h1")
	w.method("st1", "h1", 1)
	w.binding("b1", s, "h1", "CN=alice")
	must(w.UpdateServiceType(ctx, admin, "st1", exchange.ServiceTypeInput{Name: ptr("st2")}))(t)
	must(w.UpdateAuthMethod(ctx, admin, "st2", "h1", exchange.AuthMethodInput{AccessKey: ptr("k2-" + accessKey)}))(t)
	must(w.UpdateBinding(ctx, admin, "b1", exchange.BindingInput{Name: ptr("b2")}))(t)
	_, err := w.UpdateBinding(ctx, admin, "b1", exchange.BindingInput{Name: ptr("b3")}) // fails, and is no change
	refused(t, err, bindery.CodeNotFound, "Binding was not found")
	if err := w.DeleteBinding(ctx, admin, "b2"); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteAuthMethod(ctx, admin, "st2", "h1"); err != nil {
		t.Fatal(err)
	}
	if err := w.DeleteServiceType(ctx, admin, "st2"); err != nil {
		t.Fatal(err)
	}
	var events []bindery.Event
	if err := w.store.View(ctx, func(tx bindery.Tx) (err error) {
		events, err = tx.Events().List(ctx, bindery.EventFilter{}, bindery.Page{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Action)
		if e.Actor != "ops" || e.RequestID != "request-1" || e.Result != "succeeded" || e.At.IsZero() {
			t.Errorf("got %+v", e)
		}
		if strings.Contains(e.Message, accessKey) || strings.Contains(e.Message, uniqueKey) || e.Message == "" {
			t.Errorf("got message %q", e.Message)
		}
	}
	want := []string{
		"create service type", "create auth method", "create binding", "update service type", "update auth method", "update binding",
		"delete binding", "delete auth method", "delete service type",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if m := events[3].Message; !strings.Contains(m, `"st1"`) || !strings.Contains(m, `"st2"`) {
		t.Errorf("a rename says %q", m)
	}
}
