package postgres_test

import (
	"slices"
	"strconv"
	"testing"

	"bindery"
)

// One row of every installation, the 996th, is spelled "ro", as names of readers end.
func TestNamesThatEndLikeReaders(t *testing.T) {
	t.Parallel()
	row, err := strconv.ParseInt("ro", 36, 64)
	if err != nil {
		t.Fatal(err)
	}
	eachLab(t, map[string]func(*lab){
		"an account": func(l *lab) {
			spec := l.instance(`{}`)
			l.row.Store(row - 1)
			account := l.bind(spec, ``)
			l.wantInventory(spec.Name, account.Name)
			l.must("revoke", l.driver.Revoke(l.Context(), spec, account))
			l.wantInventory(spec.Name)
		},
		"an instance": func(l *lab) {
			l.row.Store(row - 1)
			spec := l.instance(`{}`)
			account := l.bind(spec, `{"access":"read-only"}`)
			l.wantInventory(spec.Name, account.Name)
			client := l.client(spec, l.bind(spec, ``))
			client.do(`CREATE TABLE t ()`)
			l.must("revoke by the name alone", l.driver.Revoke(l.Context(), bindery.InstanceSpec{}, bindery.Account{Name: account.Name}))
		},
	})
}

// wantInventory compares what the server has with one instance and its accounts.
func (l *lab) wantInventory(instance string, accounts ...string) {
	l.Helper()
	var instances, found []string
	l.must("inventory", l.driver.Inventory(l.Context(), func(f bindery.Found) error {
		if f.Instance {
			instances = append(instances, f.Name)
		} else {
			found = append(found, f.Name)
		}
		return nil
	}))
	if !slices.Equal(instances, []string{instance}) || !slices.Equal(found, accounts) {
		l.Errorf("got instances %q and accounts %q, want %q and %q", instances, found, instance, accounts)
	}
}
