package authn

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"bindery"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	var k Keys
	with := func(query string, header ...string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		return r
	}
	if _, sent, ok := k.Check(with("key=a")); ok || !sent {
		t.Error("the zero value knows somebody")
	}
	secret := bindery.NewSecret
	must(t, k.Set([]Key{
		{Name: "a", Secret: secret("key-a"), Role: RoleAdmin},
		{Name: "b", Secret: secret("key b&c"), Role: RoleReadOnly, Services: []string{"s1", "s2"}},
	}))
	for name, tt := range map[string]struct {
		r    *http.Request
		who  string // empty: nobody
		sent bool
	}{
		"parameter":               {with("key=key-a"), "a", true},
		"parameter, escaped":      {with("x=y&key=key%20b%26c"), "b", true},
		"parameter twice":         {with("key=key-a&key=x"), "a", true},
		"header":                  {with("", "x-api-key", "key-a"), "a", true},
		"bearer":                  {with("", "Authorization", "bearer  key-a"), "a", true},
		"one of three":            {with("key=x", "x-api-key", "y", "Authorization", "Bearer key b&c"), "b", true},
		"nothing":                 {with(""), "", false},
		"empty":                   {with("key=", "x-api-key", "", "Authorization", "Bearer "), "", false},
		"basic":                   {with("", "Authorization", "Basic key-a"), "", false},
		"wrong":                   {with("key=key-b"), "", true},
		"case":                    {with("KEY=key-a&key=Key-a"), "", true},
		"a query that is no good": {with("%zz&key=key-a"), "a", true},
	} {
		by, sent, ok := k.Check(tt.r)
		if by.Name != tt.who || ok != (tt.who != "") || sent != tt.sent {
			t.Errorf("%s: %q, sent %v", name, by.Name, sent)
		}
	}
	by, _, _ := k.Check(with("", "x-api-key", "key b&c"))
	if !by.ReadOnly || !slices.Equal(by.Services, []string{"s1", "s2"}) {
		t.Errorf("got %+v", by)
	}

	for name, bad := range map[string][]Key{
		"no name":   {{Secret: secret("x"), Role: RoleAdmin}},
		"no secret": {{Name: "x", Role: RoleAdmin}},
		"no role":   {{Name: "x", Secret: secret("x")}},
		"nothing":   {{Name: "x", Secret: secret("x"), Role: RoleAdmin, Services: []string{}}},
		"the same":  {{Name: "x", Secret: secret("x"), Role: RoleAdmin}, {Name: "y", Secret: secret("x"), Role: RoleReadOnly}},
	} {
		if k.Set(bad) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, _, ok := k.Check(with("key=key-a")); !ok {
		t.Error("a refused set replaced the one before")
	}
	must(t, k.Set(nil))
	if _, _, ok := k.Check(with("key=key-a")); ok {
		t.Error("a removed key is still good")
	}
}
