package store_test

import (
	"fmt"
	"slices"
	"testing"

	"bindery"
	"bindery/store/storetest"
)

// Whoever remembers many resolutions of one service type has its hosts once.
func TestResolutionsShareHosts(t *testing.T) {
	t.Parallel()
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openFew(t, url(t), storetest.Keys(t))
			service := bindery.ServiceType{Row: newID(t, s), UUID: "u", Name: "s", Revision: 1}
			for n := range 1000 {
				service.Hosts = append(service.Hosts, fmt.Sprintf("host-%d", n))
			}
			update := func(f func(bindery.Tx) error) {
				if err := s.Update(t.Context(), f); err != nil {
					t.Fatal(err)
				}
			}
			resolve := func(n int) []string {
				got, err := s.Resolve(t.Context(), "s", service.Hosts[n], bindery.AuthX509, bindery.IdentityKeys{Exact: "none"})
				if err != nil || !slices.Equal(got.Service.Hosts, service.Hosts) {
					t.Fatalf("got %+v, %v", got, err)
				}
				return got.Service.Hosts
			}
			update(func(tx bindery.Tx) error { return tx.ServiceTypes().Add(t.Context(), service) })
			first, other := resolve(0), resolve(1)
			if &first[0] != &other[0] {
				t.Error("two resolutions have a copy each")
			}
			service.Hosts, service.Revision = slices.Clone(service.Hosts[:2]), 2
			update(func(tx bindery.Tx) error { return tx.ServiceTypes().Save(t.Context(), service) })
			if changed := resolve(1); len(first) != 1000 || &changed[0] == &first[0] {
				t.Error("a change wrote to what was handed out")
			}
		})
	}
}
