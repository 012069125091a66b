package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"bindery"
)

const faceHealth = "health"

// A Check is something that readiness is told of.
type Check struct {
	Name string
	// Essential: the process is not ready without it. The others are reported only:
	// one backend that is down must not take the others away from their users.
	Essential bool
	// Ping returns nil where it answers.
	Ping func(context.Context) error
}

// Health answers /livez and /readyz from what its last round of checks found,
// so that a backend that hangs never hangs an answer. Run makes the rounds.
type Health struct {
	// Checks is asked before every round: a reload may change the list.
	Checks  func() []Check
	Every   time.Duration // 0: 5 seconds
	Timeout time.Duration // of one check; 0: 3 seconds
	Now     func() time.Time

	draining atomic.Bool
	mu       sync.Mutex
	known    map[string]*finding
	order    []string
	told     chan struct{} // closed and made anew with every answer
}

type finding struct {
	essential, running bool
	at                 time.Time // of the last answer; zero: none yet
	err                error
}

// Run checks everything at once and then regularly, until the context ends. A
// check that has not returned is not started a second time.
func (h *Health) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	tick := time.NewTicker(cmp.Or(h.Every, 5*time.Second))
	defer tick.Stop()
	for {
		h.round(ctx, &running)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (h *Health) round(ctx context.Context, running *sync.WaitGroup) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := h.known
	h.known, h.order = map[string]*finding{}, h.order[:0]
	for _, check := range h.Checks() {
		f := before[check.Name]
		if f == nil {
			f = &finding{}
		}
		f.essential = check.Essential
		h.known[check.Name] = f
		h.order = append(h.order, check.Name)
		if f.running {
			continue
		}
		f.running = true
		running.Go(func() {
			limited, cancel := context.WithTimeout(ctx, cmp.Or(h.Timeout, 3*time.Second))
			defer cancel()
			err := check.Ping(limited)
			h.mu.Lock()
			defer h.mu.Unlock()
			f.running, f.at, f.err = false, h.Now(), err
			if h.told != nil {
				close(h.told)
				h.told = nil
			}
		})
	}
}

// Await waits until /readyz would say that the process is ready.
func (h *Health) Await(ctx context.Context) error {
	for {
		h.mu.Lock()
		if h.told == nil {
			h.told = make(chan struct{})
		}
		told := h.told
		h.mu.Unlock()
		if _, ok := h.Ready(); ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-told:
		}
	}
}

// Drain makes /readyz answer 503 from now on, so that balancers look elsewhere
// while the last calls end.
func (h *Health) Drain() { h.draining.Store(true) }

// CheckResult is one line of /readyz.
type CheckResult struct {
	Name      string `json:"name"`
	Status    string `json:"status"` // "ok", "failing" or "unknown"
	Essential bool   `json:"essential"`
	CheckedAt string `json:"checked_at,omitempty"`
	Message   string `json:"message,omitempty"`
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Status string        `json:"status"` // "ready", "not ready" or "draining"
	Checks []CheckResult `json:"checks"`
}

// Ready says what the last checks found. An essential one that is unknown yet is not fine.
func (h *Health) Ready() (Readiness, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out, ready := Readiness{Checks: make([]CheckResult, 0, len(h.order))}, len(h.order) > 0
	stale := h.Now().Add(-3*cmp.Or(h.Every, 5*time.Second) - cmp.Or(h.Timeout, 3*time.Second))
	for _, name := range h.order {
		f := h.known[name]
		r := CheckResult{Name: name, Status: "ok", Essential: f.essential}
		switch {
		case f.at.IsZero():
			r.Status = "unknown"
		case f.err != nil:
			r.Status, r.Message = "failing", bindery.MessageOf(f.err)
		case f.at.Before(stale):
			r.Status, r.Message = "failing", "the last check has not returned"
		}
		if !f.at.IsZero() {
			r.CheckedAt = f.at.UTC().Format(time.RFC3339)
		}
		if f.essential && r.Status != "ok" {
			ready = false
		}
		out.Checks = append(out.Checks, r)
	}
	out.Status = "ready"
	if !ready {
		out.Status = "not ready"
	}
	if h.draining.Load() {
		out.Status, ready = "draining", false
	}
	return out, ready
}

// Faces are /livez and /readyz. They ask for no credentials and tell no causes.
func (h *Health) Faces() []Face {
	live := NewRouter(Route{http.MethodGet, "/livez", func(c *Call) error {
		c.Raw(http.StatusOK, "application/json", []byte(`{"status":"ok"}`+"\n"))
		return nil
	}})
	ready := NewRouter(Route{http.MethodGet, "/readyz", func(c *Call) error {
		r, ok := h.Ready()
		status := http.StatusOK
		if !ok {
			status = http.StatusServiceUnavailable
		}
		c.JSON(status, r)
		return nil
	}})
	return []Face{
		{Name: faceHealth, Segment: "livez", Serve: live.Serve},
		{Name: faceHealth, Segment: "readyz", Serve: ready.Serve},
	}
}

// DocumentFace is /openapi.json, the description of what is served.
func DocumentFace(document []byte) Face {
	document = slices.Clone(document)
	router := NewRouter(Route{http.MethodGet, "/openapi.json", func(c *Call) error {
		c.Raw(http.StatusOK, "application/json", document)
		return nil
	}})
	return Face{Name: "openapi", Segment: "openapi.json", Serve: router.Serve}
}
