package storetest

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"bindery"
)

var modelTests = map[string]func(world){
	"any history of transactions does what a simple model does": func(w world) {
		rapid.Check(w.T, func(t *rapid.T) {
			m := model{
				instances: map[int64]bindery.Instance{}, bindings: map[int64]bindery.Binding{}, operations: map[int64]bindery.Operation{},
			}
			// A platform of its own keeps each history apart from the others in the store.
			platform := "platform-" + strconv.FormatInt(w.id(), 10)
			for range rapid.IntRange(1, 8).Draw(t, "transactions") {
				steps := make([]step, rapid.IntRange(1, 4).Draw(t, "steps"))
				for i := range steps {
					steps[i] = step{
						what: rapid.IntRange(0, 5).Draw(t, "what"), row: w.id(), pick: rapid.IntRange(0, 9).Draw(t, "pick"),
						id:   rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "id"),
						from: rapid.SampledFrom(states).Draw(t, "from"), to: rapid.SampledFrom(states).Draw(t, "to"),
						fence: int64(rapid.IntRange(0, 2).Draw(t, "fence")), end: rapid.Bool().Draw(t, "end"),
					}
				}
				undo := rapid.Bool().Draw(t, "undo")
				var after model
				err := w.s.Update(w.ctx, func(tx bindery.Tx) error {
					after = m.clone() // it may be run again
					for _, s := range steps {
						got, want := s.do(w, tx, &after, platform)
						if got != want {
							t.Fatalf("%+v: got %q, want %q", s, got, want)
						}
					}
					if undo {
						return errUndo
					}
					return nil
				})
				switch {
				case undo && !errors.Is(err, errUndo), !undo && err != nil:
					t.Fatalf("update: %v", err)
				case !undo:
					m = after
				}
				m.check(w, t, platform)
			}
		})
	},
}

var states = []bindery.State{bindery.StateCreating, bindery.StateReady, bindery.StateRemoving, bindery.StateRemoved}

// A model is what a store should hold, in plain maps by row.
type model struct {
	instances  map[int64]bindery.Instance
	bindings   map[int64]bindery.Binding
	operations map[int64]bindery.Operation
}

func (m model) clone() model {
	return model{maps.Clone(m.instances), maps.Clone(m.bindings), maps.Clone(m.operations)}
}

// A step is one call, drawn before it runs.
type step struct {
	what, pick int
	row        int64
	id         string
	from, to   bindery.State
	fence      int64
	end        bool
}

// pick chooses one of a map, in order of rows, so that a history can be repeated.
func pick[T any](m map[int64]T, n int) (one T, ok bool) {
	if len(m) == 0 {
		return one, false
	}
	rows := slices.Sorted(maps.Keys(m))
	return m[rows[n%len(rows)]], true
}

// do makes the call and changes the model; it returns the code and the model's.
func (s step) do(w world, tx bindery.Tx, m *model, platform string) (got, want bindery.Code) {
	at := start.Add(time.Duration(s.row))
	switch s.what {
	case 0:
		i := bindery.Instance{Row: s.row, Platform: platform, ID: s.id, PlanID: s.id, State: s.to, Parameters: bindery.NewSecret(s.id)}
		if m.liveInstance(s.id) != nil && s.to != bindery.StateRemoved {
			want = bindery.CodeConflict
		} else {
			m.instances[i.Row] = i
		}
		return bindery.CodeOf(tx.Instances().Add(w.ctx, i)), want
	case 1:
		i, ok := pick(m.instances, s.pick)
		if !ok || (i.State == bindery.StateRemoved && s.to != bindery.StateRemoved) {
			return "", "" // nothing comes back from removed
		}
		if i.State != s.from {
			want = bindery.CodeBusy
		}
		i.State, i.Updated, i.Parameters = s.to, at.Truncate(time.Microsecond), bindery.Secret{}
		if want == "" {
			m.instances[i.Row] = i
		}
		return bindery.CodeOf(tx.Instances().Save(w.ctx, i, s.from)), want
	case 2:
		i, ok := pick(m.instances, s.pick)
		if !ok {
			return "", ""
		}
		b := bindery.Binding{Row: s.row, InstanceRow: i.Row, Platform: platform, InstanceID: i.ID, ID: s.id, State: s.to}
		if m.liveBinding(s.id) != nil && s.to != bindery.StateRemoved {
			want = bindery.CodeConflict
		} else {
			m.bindings[b.Row] = b
		}
		return bindery.CodeOf(tx.Bindings().Add(w.ctx, b)), want
	case 3:
		b, ok := pick(m.bindings, s.pick)
		if !ok || (b.State == bindery.StateRemoved && s.to != bindery.StateRemoved) {
			return "", ""
		}
		if b.State != s.from {
			want = bindery.CodeBusy
		}
		b.State, b.AppGUID = s.to, s.id
		if want == "" {
			m.bindings[b.Row] = b
		}
		return bindery.CodeOf(tx.Bindings().Save(w.ctx, b, s.from)), want
	case 4:
		i, ok := pick(m.instances, s.pick)
		if !ok {
			return "", ""
		}
		o := bindery.Operation{Row: s.row, Platform: platform, InstanceRow: i.Row, State: bindery.OpInProgress, Due: start, Internal: s.end}
		if m.active(i.Row) != nil {
			want = bindery.CodeBusy
		} else {
			m.operations[o.Row] = o
		}
		return bindery.CodeOf(tx.Operations().Add(w.ctx, o)), want
	default:
		o, ok := pick(m.operations, s.pick)
		if !ok {
			return "", ""
		}
		if o.State != bindery.OpInProgress || s.fence != o.Fence {
			want = bindery.CodeBusy
		}
		o.Fence, o.Problem = s.fence, s.id
		if s.end {
			o.State, o.Finished = bindery.OpFailed, start
		}
		if want == "" {
			m.operations[o.Row] = o
		}
		return bindery.CodeOf(tx.Operations().Save(w.ctx, o)), want
	}
}

func (m model) liveInstance(id string) *bindery.Instance {
	for _, i := range m.instances {
		if i.ID == id && i.State != bindery.StateRemoved {
			return &i
		}
	}
	return nil
}

func (m model) liveBinding(id string) *bindery.Binding {
	for _, b := range m.bindings {
		if b.ID == id && b.State != bindery.StateRemoved {
			return &b
		}
	}
	return nil
}

func (m model) active(instanceRow int64) *bindery.Operation {
	for _, o := range m.operations {
		if o.InstanceRow == instanceRow && o.State == bindery.OpInProgress {
			return &o
		}
	}
	return nil
}

// check compares everything that can be read with the model.
func (m model) check(w world, t *rapid.T, platform string) {
	same := func(what string, got, want any) {
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s (-want +got):\n%s", what, d)
		}
	}
	err := w.s.View(w.ctx, func(tx bindery.Tx) error {
		all, err := tx.Instances().List(w.ctx, bindery.InstanceFilter{Platform: platform, Removed: true}, bindery.Page{Limit: 1000})
		if err != nil {
			return err
		}
		same("instances", all, inOrder(m.instances))
		bound, err := tx.Bindings().List(w.ctx, bindery.BindingFilter{Platform: platform, Removed: true}, bindery.Page{Limit: 1000})
		if err != nil {
			return err
		}
		same("bindings", bound, inOrder(m.bindings))
		operations, err := tx.Operations().List(w.ctx, bindery.OperationFilter{Platform: platform}, bindery.Page{Limit: 1000})
		if err != nil {
			return err
		}
		same("operations", operations, inOrder(m.operations))
		for _, id := range []string{"a", "b", "c"} {
			if live := m.liveInstance(id); live != nil {
				got, err := tx.Instances().Find(w.ctx, platform, id)
				if err != nil {
					return err
				}
				same("instance "+id, got, *live)
				n, err := tx.Instances().Count(w.ctx, platform, id, 10)
				if err != nil {
					return err
				}
				same("count of plan "+id, n, 1)
			}
		}
		for _, i := range m.instances {
			got, err := tx.Operations().Active(w.ctx, i.Row, 0)
			if want := m.active(i.Row); want == nil {
				if err := missing(err); err != nil {
					return err
				}
			} else {
				same("active operation", got, *want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("check: %v", err)
	}
}

func inOrder[T any](m map[int64]T) []T {
	var out []T
	for _, row := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[row])
	}
	return out
}
