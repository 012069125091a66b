package store_test

import (
	"errors"
	"reflect"
	"testing"

	"bindery"
	"bindery/store/storetest"
)

// TestFaulty asks a faulty store for everything: every method of every table must
// ask for a fault before it delegates, also those that are added later.
func TestFaulty(t *testing.T) {
	t.Parallel()
	s := openFew(t, path(t), storetest.Keys(t))
	errFault := errors.New("fault")
	var asked [][2]string
	strict := false
	f := storetest.Faulty(s, func(table, method string) error {
		asked = append(asked, [2]string{table, method})
		if strict && table != "store" {
			return errFault
		}
		return nil
	})
	strict = true
	err := f.View(t.Context(), func(tx bindery.Tx) error {
		tables := reflect.ValueOf(tx)
		for i := range tables.Type().NumMethod() {
			table := tables.Method(i).Call(nil)[0].Elem()
			promised := tables.Method(i).Type().Out(0)
			for k := range promised.NumMethod() {
				m := table.MethodByName(promised.Method(k).Name)
				args := []reflect.Value{reflect.ValueOf(t.Context())}
				for a := 1; a < m.Type().NumIn(); a++ {
					args = append(args, reflect.Zero(m.Type().In(a)))
				}
				before := len(asked)
				call := m.Call
				if m.Type().IsVariadic() {
					call = m.CallSlice
				}
				out := call(args)
				got, _ := out[len(out)-1].Interface().(error)
				if !errors.Is(got, errFault) || len(asked) != before+1 || asked[before][1] != promised.Method(k).Name {
					t.Errorf("%s.%s: got %v, asked %v", promised.Name(), promised.Method(k).Name, got, asked[before:])
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	strict = false
	commit := storetest.Faulty(s, func(_, method string) error {
		if method == "Commit" {
			return errFault
		}
		return nil
	})
	i := addInstance(t, s, "a")
	gone := i
	gone.State = bindery.StateRemoved
	err = commit.Update(t.Context(), func(tx bindery.Tx) error { return tx.Instances().Save(t.Context(), gone, i.State) })
	if !errors.Is(err, errFault) {
		t.Fatalf("got %v, want the fault", err)
	}
	hasInstance(t, s, i)
}

func TestFaultyStoreKeepsThePromise(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) bindery.Store {
		return storetest.Faulty(openFew(t, path(t), storetest.Keys(t)), func(string, string) error { return nil })
	})
}
