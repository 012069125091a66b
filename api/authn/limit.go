package authn

import (
	"cmp"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"bindery"
	"bindery/api"
)

// A Limit bounds the failed proofs of one client address: wrong keys, and
// certificates and tokens that prove nobody. Proofs are tried first and only
// failures are counted, so that who proves itself never waits for what somebody
// else behind the same address does. A right guess is therefore let in at any time:
// what keeps keys from being guessed is their length.
type Limit struct {
	PerMinute int // in the long run; 0: 60
	Burst     int // at once; 0: 30
	Off       bool
}

// maxAddresses bounds how many addresses are remembered.
const maxAddresses = 1 << 14

// failures counts failed proofs. An IPv6 client has a whole /64 to call from,
// which therefore counts as one address.
type failures struct {
	Limit
	mu sync.Mutex
	of map[netip.Prefix]*rate.Limiter
}

// count notes a failure, and says how long the client must wait where it had too many.
func (f *failures) count(addr netip.Addr, now time.Time) (wait time.Duration) {
	if f.Off {
		return 0
	}
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	client, _ := addr.WithZone("").Prefix(bits) // no address: all of those are one client
	f.mu.Lock()
	defer f.mu.Unlock()
	limiter := f.of[client]
	if limiter == nil {
		if f.of == nil {
			f.of = map[netip.Prefix]*rate.Limiter{}
		}
		if len(f.of) >= maxAddresses {
			f.forget(now)
		}
		limiter = rate.NewLimiter(rate.Limit(float64(cmp.Or(f.PerMinute, 60))/60), cmp.Or(f.Burst, 30))
		f.of[client] = limiter
	}
	r := limiter.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// forget makes room: of some addresses, chosen by the map's chance, it forgets
// the one that failed least.
func (f *failures) forget(now time.Time) {
	var least netip.Prefix
	most, seen := math.Inf(-1), 0
	for client, limiter := range f.of {
		if tokens := limiter.TokensAt(now); tokens > most {
			least, most = client, tokens
		}
		if seen++; seen == 8 {
			break
		}
	}
	delete(f.of, least)
}

// failed counts a proof that failed and returns the error to answer with: its
// own, or that the client must wait. What failed for our own reasons is not counted.
func (h *Handler) failed(c *api.Call, err error) error {
	switch bindery.CodeOf(err) {
	case bindery.CodeUnauthorized, bindery.CodeForbidden, bindery.CodeInvalid:
	default:
		return err
	}
	wait := h.failures.count(remote(c), h.Now())
	if wait <= 0 {
		return err
	}
	delete(c.Header(), "Www-Authenticate")
	c.Header()["Retry-After"] = []string{strconv.Itoa(int(math.Ceil(wait.Seconds())))}
	return &api.Refusal{Status: http.StatusTooManyRequests, Message: "Too many failed attempts, try again later"}
}
