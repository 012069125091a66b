package storetest

import (
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"bindery"
)

var authorityTests = map[string]func(world){
	"a server has one": func(w world) {
		a := w.authority("server")
		other := w.authority("other")
		w.view(func(tx bindery.Tx) error {
			for _, want := range []bindery.Authority{a, other} {
				got, err := tx.Authorities().Get(w.ctx, want.Server)
				if err != nil {
					return err
				}
				w.same("authority", got, want)
			}
			return nil
		})
		again := a
		again.Row = w.id()
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.Authorities().Add(w.ctx, again) })
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.Authorities().Get(w.ctx, "nowhere")) })
	},
	"the number of the revocation list grows": func(w world) {
		a := w.authority("server")
		w.authority("other")
		const callers, each = 4, 5
		var sum atomic.Int64
		concurrently(w, callers, func(int) error {
			for range each {
				var n int64
				err := w.s.Update(w.ctx, func(tx bindery.Tx) (err error) {
					n, err = tx.Authorities().NextCRL(w.ctx, "server")
					return err
				})
				if err != nil {
					return err
				}
				sum.Add(n - a.CRLNumber)
			}
			return nil
		})
		// Each number once: 1 + 2 + … + 20.
		if want := int64(callers * each * (callers*each + 1) / 2); sum.Load() != want {
			w.Errorf("the sum is %d, want %d", sum.Load(), want)
		}
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Authorities().Get(w.ctx, "server")
			a.CRLNumber += callers * each
			w.same("authority", got, a)
			return err
		})
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(tx.Authorities().NextCRL(w.ctx, "nowhere")) })
	},
	"of many that add one, one wins": func(w world) {
		w.oneWins(8, bindery.CodeConflict, func(tx bindery.Tx, row int64) error {
			return tx.Authorities().Add(w.ctx, bindery.Authority{Row: row, Server: "server", Certificate: []byte{1}})
		})
	},
}

func (w world) authority(server string) bindery.Authority {
	w.Helper()
	a := bindery.Authority{
		Row: w.id(), Server: server, Certificate: []byte("\x30\x00" + server), Key: bindery.NewSecret("key of " + server), CRLNumber: 41, Created: start,
	}
	w.update(func(tx bindery.Tx) error { return tx.Authorities().Add(w.ctx, a) })
	return a
}

var certificateTests = map[string]func(world){
	"what was added is found by serial number and by name": func(w world) {
		c := w.certificate("server", "1")
		other := w.certificate("other", "1")
		w.holdsCertificate(c)
		w.holdsCertificate(other)
		for _, f := range []func(bindery.Certificates) (bindery.IssuedCertificate, error){
			func(t bindery.Certificates) (bindery.IssuedCertificate, error) {
				return t.BySerial(w.ctx, "server", "name-1")
			},
			func(t bindery.Certificates) (bindery.IssuedCertificate, error) {
				return t.ByName(w.ctx, "server", "serial-1")
			},
			func(t bindery.Certificates) (bindery.IssuedCertificate, error) {
				return t.ByName(w.ctx, "nowhere", "name-1")
			},
		} {
			w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return second(f(tx.Certificates())) })
		}
	},
	"a serial number is used once on a server": func(w world) {
		again := w.certificate("server", "1")
		again.Row, again.Name = w.id(), "another"
		w.refused(bindery.CodeConflict, func(tx bindery.Tx) error { return tx.Certificates().Add(w.ctx, again) })
		w.oneWins(8, bindery.CodeConflict, func(tx bindery.Tx, row int64) error {
			return tx.Certificates().Add(w.ctx, bindery.IssuedCertificate{Row: row, Server: "server", Serial: "one", Name: strconv.FormatInt(row, 16)})
		})
	},
	"a name's certificates are revoked together": func(w world) {
		named := func(c *bindery.IssuedCertificate) { c.Name = "name" }
		first := w.certificate("server", "1", named)
		w.certificate("server", "2", named, func(c *bindery.IssuedCertificate) { c.Revoked = start })
		finds := func(want string) {
			w.view(func(tx bindery.Tx) error {
				got, err := tx.Certificates().ByName(w.ctx, "server", "name")
				w.same("by name", got.Serial, want)
				return err
			})
		}
		finds(first.Serial) // though a later one was revoked
		third := w.certificate("server", "3", named)
		finds(third.Serial)
		w.update(func(tx bindery.Tx) error {
			return tx.Certificates().Revoke(w.ctx, "server", "name", start.Add(time.Hour))
		})
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Certificates().List(w.ctx, "server", true, time.Time{}, bindery.Page{})
			w.same("revoked", len(got), 3)
			for _, c := range got {
				at := start.Add(time.Hour)
				if c.Serial == "serial-2" {
					at = start
				}
				w.same("revoked at", c.Revoked, at)
			}
			return err
		})
	},
	"it is revoked once": func(w world) {
		c := w.certificate("server", "1")
		other := w.certificate("other", "1")
		for _, at := range []time.Time{start, start.Add(time.Hour)} {
			w.update(func(tx bindery.Tx) error { return tx.Certificates().Revoke(w.ctx, "server", c.Name, at) })
			c.Revoked = start
			w.holdsCertificate(c)
		}
		w.holdsCertificate(other)
		w.refused(bindery.CodeNotFound, func(tx bindery.Tx) error { return tx.Certificates().Revoke(w.ctx, "server", "nobody", start) })
	},
	"lists the revoked ones and the others, but for those that expired": func(w world) {
		var revoked, live []bindery.IssuedCertificate
		for n := range 12 {
			c := w.certificate("server", strconv.Itoa(n), func(c *bindery.IssuedCertificate) {
				c.Expires = start.Add(time.Duration(n%4) * time.Hour)
				if n%3 == 0 {
					c.Revoked = start
				}
			})
			switch {
			case n%4 == 0: // expires at start, not after it
			case n%3 == 0:
				revoked = append(revoked, c)
			default:
				live = append(live, c)
			}
		}
		w.certificate("other", "1")
		for _, limit := range []int{1, 100} {
			for is, want := range map[bool][]bindery.IssuedCertificate{true: revoked, false: live} {
				got := paged(w, limit, func(c bindery.IssuedCertificate) int64 { return c.Row },
					func(tx bindery.Tx, p bindery.Page) ([]bindery.IssuedCertificate, error) {
						return tx.Certificates().List(w.ctx, "server", is, start, p)
					})
				w.same("list", got, want)
			}
		}
	},
	"prunes what expired, few at a time": func(w world) {
		var all []bindery.IssuedCertificate
		for n := range 10 {
			all = append(all, w.certificate("server", strconv.Itoa(n), func(c *bindery.IssuedCertificate) {
				c.Expires = start.Add(time.Duration(n) * time.Second)
			}))
		}
		for _, pruned := range []int{4, 2, 0} {
			w.update(func(tx bindery.Tx) error {
				n, err := tx.Certificates().Prune(w.ctx, start.Add(6*time.Second), 4)
				if n != pruned {
					w.Errorf("pruned %d, want %d", n, pruned)
				}
				return err
			})
		}
		w.view(func(tx bindery.Tx) error {
			got, err := tx.Certificates().List(w.ctx, "server", false, time.Time{}, bindery.Page{})
			w.same("left", got, all[6:])
			return err
		})
	},
}

func (w world) certificate(server, n string, change ...func(*bindery.IssuedCertificate)) bindery.IssuedCertificate {
	w.Helper()
	c := bindery.IssuedCertificate{Row: w.id(), Server: server, Serial: "serial-" + n, Name: "name-" + n, Expires: start.Add(time.Hour)}
	for _, f := range change {
		f(&c)
	}
	w.update(func(tx bindery.Tx) error { return tx.Certificates().Add(w.ctx, c) })
	return c
}

func (w world) holdsCertificate(want bindery.IssuedCertificate) {
	w.Helper()
	w.view(func(tx bindery.Tx) error {
		bySerial, err1 := tx.Certificates().BySerial(w.ctx, want.Server, want.Serial)
		byName, err2 := tx.Certificates().ByName(w.ctx, want.Server, want.Name)
		w.same("by serial number", bySerial, want)
		w.same("by name", byName, want)
		return errors.Join(err1, err2)
	})
}
