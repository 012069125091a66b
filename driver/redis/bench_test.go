package redis_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
	"bindery/devserver/servertest"
	"bindery/driver/redis"
)

// parallel is how many binds a platform has under way.
const parallel = 16

// BenchmarkEnsure measures new accounts, and the one statement that any tool
// would have to send for them, with the same rights.
func BenchmarkEnsure(b *testing.B) {
	b.Run("driver", func(b *testing.B) {
		r := servertest.Redis(b)
		s := configured(r, "bench1")
		s.Settings, s.Timeout = json.RawMessage(`{"max_connections":16}`), time.Minute // a save may be long
		d := openDriver(b, s)
		spec := bindery.InstanceSpec{Name: bindery.Name("bench1", 1)}
		var row atomic.Int64
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
			}
		})
	})
	b.Run("bare", func(b *testing.B) {
		r := servertest.Redis(b)
		c := goredis.NewClient(&goredis.Options{
			Addr: r.Addr, Username: r.User, Password: r.Password.Reveal(), Protocol: 2, PoolSize: parallel,
		})
		b.Cleanup(func() { _ = c.Close() }) // nothing is kept
		rights := rightsOf(b, r.Addr, c)
		var row atomic.Int64
		b.SetParallelism(parallel / 2)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				n := row.Add(1)
				args := []any{
					"ACL", "SETUSER", fmt.Sprint("u", n), "reset", "resetchannels", "on", "~p*", "&p*",
					fmt.Sprintf("#%x", sha256.Sum256(fmt.Append(nil, n))),
				}
				if err := c.Do(b.Context(), append(args, rights...)...).Err(); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// BenchmarkRevoke measures revocations that share their saves, of accounts that
// are a thousand at the start.
func BenchmarkRevoke(b *testing.B) {
	r := servertest.Redis(b)
	s := configured(r, "bench2")
	s.Settings, s.Timeout = json.RawMessage(`{"max_connections":16}`), time.Minute
	d := openDriver(b, s)
	spec := bindery.InstanceSpec{Name: bindery.Name("bench2", 1)}
	for i := range int64(1000) {
		account(b, d, spec, 1_000_000+i, `{}`)
	}
	var row atomic.Int64
	b.SetParallelism(parallel / 2)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			a := bindery.Account{Name: bindery.Name("bench2", row.Add(1))}
			if err := d.Revoke(b.Context(), spec, a); err != nil {
				b.Error(err)
			}
		}
	})
}

// rightsOf returns the allowed commands of an account that the driver made.
func rightsOf(b *testing.B, addr string, c *goredis.Client) []any {
	b.Helper()
	s := bindery.Server{
		Installation: "bench0", Address: addr,
		Username: c.Options().Username, Password: bindery.NewSecret(c.Options().Password),
	}
	d, err := redis.Kind.Open(s)
	must(b, err)
	defer func() { must(b, d.Close()) }() // before it saves anything
	spec := bindery.InstanceSpec{Name: bindery.Name("bench0", 1)}
	a, _ := account(b, d, spec, 2, `{}`)
	reply, err := c.Do(b.Context(), "ACL", "GETUSER", a.Name).Slice()
	must(b, err)
	var rights []any
	for i := 0; i+1 < len(reply); i += 2 {
		if reply[i] == "commands" {
			for rule := range strings.FieldsSeq(fmt.Sprint(reply[i+1])) {
				rights = append(rights, rule)
			}
		}
	}
	return rights
}
