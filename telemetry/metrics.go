// Package telemetry is what Bindery shows of itself: JSON logs and Prometheus
// metrics. It wraps drivers and the store from outside, so that nothing in the
// domain counts or measures.
package telemetry

import (
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"bindery"
)

// Metrics holds every metric of one process. Labels come from configuration,
// routes and fixed lists only: what callers send never makes a new one.
type Metrics struct {
	registry *prometheus.Registry

	requests          *prometheus.CounterVec
	requestSeconds    *prometheus.HistogramVec
	driverCalls       *prometheus.CounterVec
	driverSeconds     *prometheus.HistogramVec
	driverBusy        *prometheus.GaugeVec
	storeTransactions *prometheus.CounterVec
	storeSeconds      *prometheus.HistogramVec
	operations        *prometheus.CounterVec
	operationSeconds  *prometheus.HistogramVec
	operationRetries  *prometheus.CounterVec
	reconcileRuns     *prometheus.CounterVec
	reconcileFindings *prometheus.CounterVec
	accountsUnproven  *prometheus.GaugeVec
	accountsStuck     *prometheus.GaugeVec
	proofs            *prometheus.CounterVec
	poolItems         *prometheus.GaugeVec
	serverUp          *prometheus.GaugeVec
	reloads           *prometheus.CounterVec

	authentications       *prometheus.CounterVec
	authenticationSeconds *prometheus.HistogramVec
	upstreamSeconds       *prometheus.HistogramVec

	answers  remembered[answer]
	outcomes remembered[[4]string]

	mu      sync.Mutex
	pending map[string]bool // servers that Pending was told of
}

// From a store's half millisecond to the request that waits for 55 seconds.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// NewMetrics makes the metrics of this process, Go's own included.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry:          prometheus.NewRegistry(),
		pending:           map[string]bool{},
		requests:          counter(Requests, "HTTP requests.", "face", "method", "route", "status"),
		requestSeconds:    histogram(RequestSeconds, "How long they took.", "face", "method", "route"),
		driverCalls:       counter(DriverCalls, "Calls of a backend.", "kind", "server", "method", "outcome"),
		driverSeconds:     histogram(DriverSeconds, "How long they took.", "kind", "server", "method"),
		driverBusy:        gauge(DriverBusy, "Calls that a backend has to answer.", "kind", "server"),
		storeTransactions: counter(StoreTransactions, "Transactions of the store.", "method", "outcome"),
		storeSeconds:      histogram(StoreSeconds, "How long they took.", "method"),
		operations:        counter(Operations, "Operations that ended.", "kind", "server", "result"),
		operationSeconds:  histogram(OperationSeconds, "From their recording to their end.", "kind", "server"),
		operationRetries:  counter(OperationRetries, "Runs of operations that will be run again.", "kind", "server"),
		reconcileRuns:     counter(ReconcileRuns, "Comparisons of a server with the store.", "server", "outcome"),
		reconcileFindings: counter(ReconcileFindings, "What they found.", "server", "finding"),
		accountsUnproven:  gauge(AccountsUnproven, "Removed accounts that are yet to be proven dead.", "server"),
		accountsStuck:     gauge(AccountsStuck, "Removed accounts that still let somebody in, or nobody can say.", "server"),
		proofs:            counter(Proofs, "Tries to prove a removed account dead.", "server", "outcome"),
		poolItems:         gauge(PoolItems, "Items of a pool.", "server", "state"),
		serverUp:          gauge(ServerUp, "Whether the server answered its last check.", "kind", "server"),
		reloads:           counter(Reloads, "Reloads of the configuration.", "result"),

		authentications:       counter(Authentications, "Authentications of proven callers.", "type", "auth_type", "result", "source"),
		authenticationSeconds: histogram(AuthenticationSeconds, "How long they took.", "type", "auth_type"),
		upstreamSeconds:       histogram(UpstreamSeconds, "Calls of services.", "type"),
	}
	build := gauge(Build, "Always 1; the label is the version.", "version")
	build.WithLabelValues(version).Set(1)
	for _, result := range []string{"applied", "refused"} {
		m.reloads.WithLabelValues(result) // so that a rate is there before the first
	}
	m.registry.MustRegister(m.requests, m.requestSeconds, m.driverCalls, m.driverSeconds, m.driverBusy,
		m.storeTransactions, m.storeSeconds, m.operations, m.operationSeconds, m.operationRetries,
		m.reconcileRuns, m.reconcileFindings,
		m.accountsUnproven, m.accountsStuck, m.proofs, m.poolItems, m.serverUp, m.reloads, build,
		m.authentications, m.authenticationSeconds, m.upstreamSeconds,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

func gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
}

func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
}

// Handler serves /metrics and, where wanted, /debug/pprof/.
func (m *Metrics) Handler(profiles bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	if profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// An answer is what requests are counted by.
type answer struct {
	face, method, route string
	status              int
}

// Request notes one HTTP request. route is a pattern, never a path.
func (m *Metrics) Request(face, method, route string, status int, took time.Duration) {
	labels := answer{face, method, route, status}
	one, ok := m.answers.get(labels)
	if !ok {
		one = m.answers.put(labels, counted{
			m.requests.WithLabelValues(face, method, route, strconv.Itoa(status)),
			m.requestSeconds.WithLabelValues(face, method, route),
		})
	}
	one.count.Inc()
	one.seconds.Observe(took.Seconds())
}

// Operation notes one operation that ended.
func (m *Metrics) Operation(o bindery.Operation) {
	m.operations.WithLabelValues(string(o.Kind), o.Server, string(o.State)).Inc()
	m.operationSeconds.WithLabelValues(string(o.Kind), o.Server).Observe(o.Finished.Sub(o.Created).Seconds())
}

// Retry notes one run of an operation that will be run again.
func (m *Metrics) Retry(o bindery.Operation) {
	m.operationRetries.WithLabelValues(string(o.Kind), o.Server).Inc()
}

// Reconciled notes one comparison of a server with the store.
func (m *Metrics) Reconciled(server string, removed, restored, unknown int, err error) {
	m.reconcileRuns.WithLabelValues(server, outcome(err)).Inc()
	m.reconcileFindings.WithLabelValues(server, "removed").Add(float64(removed))
	m.reconcileFindings.WithLabelValues(server, "restored").Add(float64(restored))
	m.reconcileFindings.WithLabelValues(server, "unknown").Add(float64(unknown))
}

// Pending notes how many accounts are yet to be proven dead, of these servers and
// of all that have some.
func (m *Metrics) Pending(servers []string, backlog []bindery.Backlog) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, server := range servers {
		m.pending[server] = true
	}
	counts := map[bindery.AccountState]map[string]int{bindery.AccountUnproven: {}, bindery.AccountStuck: {}}
	for _, b := range backlog {
		m.pending[b.Server] = true
		counts[b.State][b.Server] = b.Count
	}
	for server := range m.pending {
		m.accountsUnproven.WithLabelValues(server).Set(float64(counts[bindery.AccountUnproven][server]))
		m.accountsStuck.WithLabelValues(server).Set(float64(counts[bindery.AccountStuck][server]))
	}
}

// Proof notes a try to prove an account dead.
func (m *Metrics) Proof(server, outcome string) { m.proofs.WithLabelValues(server, outcome).Inc() }

// Pool notes how many items of a server's pool are in which state.
func (m *Metrics) Pool(server string, counts map[bindery.StockState]int) {
	for state, n := range counts {
		m.poolItems.WithLabelValues(server, string(state)).Set(float64(n))
	}
}

// Server notes whether a server answered its check.
func (m *Metrics) Server(kind, server string, err error) {
	up := 1.0
	if err != nil {
		up = 0
	}
	m.serverUp.WithLabelValues(kind, server).Set(up)
}

// Forget drops what says how a server is, when it is no longer configured.
func (m *Metrics) Forget(kind, server string) {
	m.poolItems.DeletePartialMatch(prometheus.Labels{"server": server})
	m.serverUp.DeleteLabelValues(kind, server)
	m.driverBusy.DeleteLabelValues(kind, server)
}

// Reload notes a reload of the configuration.
func (m *Metrics) Reload(err error) {
	result := "applied"
	if err != nil {
		result = "refused"
	}
	m.reloads.WithLabelValues(result).Inc()
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	return string(bindery.CodeOf(err))
}
