package nats_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
)

// parallel is how many binds a platform has under way.
const parallel = 8

// benchmarked opens a driver with an instance that has some bindings.
func benchmarked(b *testing.B, n *devserver.NATS, installation string, accounts int) (bindery.Driver, bindery.InstanceSpec) {
	b.Helper()
	s := configured(n, installation)
	s.Timeout = time.Minute
	d := openDriver(b, s)
	spec := bindery.InstanceSpec{Name: bindery.Name(installation, 1), Settings: []byte(`{"max_bindings":2000}`)}
	must(b, d.Provision(b.Context(), spec))
	for i := range accounts {
		account(b, d, spec, int64(1_000_000+i), `{}`)
	}
	return d, spec
}

// BenchmarkBind measures a new account and its end, in an instance that has some
// already, and the one request that any tool would have to send for each half: a JWT
// of an account with as many keys, from as many clients to as many accounts.
func BenchmarkBind(b *testing.B) {
	for _, size := range []int{0, 100, 1000} {
		b.Run(fmt.Sprintf("driver/%d", size), func(b *testing.B) {
			d, spec := benchmarked(b, servertest.NATS(b), "bench1", size)
			var row atomic.Int64
			row.Store(1)
			b.SetParallelism(parallel / 2) // times the processors, of which two are the least
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					a := bindery.Account{Name: bindery.Name("bench1", row.Add(1))}
					var err error
					if a.Material, err = d.Prepare(spec, bindery.AccountRequest{Name: a.Name}); err != nil {
						b.Error(err)
					}
					if _, err = d.Ensure(b.Context(), spec, a); err != nil {
						b.Error(err)
					}
					if err := d.Revoke(b.Context(), spec, a); err != nil {
						b.Error(err)
					}
				}
			})
		})
		b.Run(fmt.Sprintf("bare/%d", size), func(b *testing.B) {
			n := servertest.NATS(b)
			operator, err := nkeys.FromSeed([]byte(n.OperatorSeed.Reveal()))
			must(b, err)
			nc, err := natsgo.Connect(n.Addr, natsgo.UserCredentialBytes([]byte(n.AdminCreds.Reveal())))
			must(b, err)
			b.Cleanup(nc.Close)
			b.SetParallelism(parallel / 2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				claims := bareClaims(b, size)
				for pb.Next() {
					for _, change := range []func(...string){claims.SigningKeys.Add, claims.SigningKeys.Remove} {
						change(newKey(b))
						token, err := claims.Encode(operator)
						if err != nil {
							b.Error(err)
						}
						if _, err := nc.Request("$SYS.REQ.CLAIMS.UPDATE", []byte(token), time.Minute); err != nil {
							b.Error(err)
						}
					}
				}
			})
		})
	}
}

func newKey(b *testing.B) string {
	pair, err := nkeys.CreateAccount()
	must(b, err)
	key, err := pair.PublicKey()
	must(b, err)
	return key
}

func bareClaims(b *testing.B, size int) *jwt.AccountClaims {
	c := jwt.NewAccountClaims(newKey(b))
	for range size {
		scope := jwt.NewUserScope()
		scope.Key, scope.Role = newKey(b), "bdy_bench1_xxxx"
		c.SigningKeys.AddScopedSigner(scope)
	}
	return c
}
