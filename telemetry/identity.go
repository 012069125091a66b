package telemetry

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Authentication notes one authentication whose caller was proven. code is empty
// where it succeeded, upstream 0 where it made no call of its own.
func (m *Metrics) Authentication(kind, auth, code string, took, upstream time.Duration, joined, cached bool) {
	source := "upstream"
	switch {
	case joined:
		source = "joined"
	case cached:
		source = "cached"
	}
	code = cmp.Or(code, "succeeded")
	labels := [4]string{kind, auth, code, source}
	one, ok := m.outcomes.get(labels)
	if !ok {
		one = m.outcomes.put(labels, counted{
			m.authentications.WithLabelValues(kind, auth, code, source),
			m.authenticationSeconds.WithLabelValues(kind, auth),
		})
	}
	one.count.Inc()
	one.seconds.Observe(took.Seconds())
	if upstream > 0 {
		m.upstreamSeconds.WithLabelValues(kind).Observe(upstream.Seconds())
	}
}

// RevocationLists makes metrics of the lists that look tells of, each time that
// they are scraped. It is called once.
func (m *Metrics) RevocationLists(look func(yield func(issuer string, entries int, next time.Time))) {
	m.registry.MustRegister(lists{
		look:    look,
		next:    prometheus.NewDesc(CRLNextUpdate, "When the revocation list ends.", []string{"issuer"}, nil),
		entries: prometheus.NewDesc(CRLEntries, "How many certificates it revokes.", []string{"issuer"}, nil),
	})
}

type lists struct {
	look          func(yield func(issuer string, entries int, next time.Time))
	next, entries *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (l lists) Describe(ch chan<- *prometheus.Desc) {
	ch <- l.next
	ch <- l.entries
}

// Collect implements [prometheus.Collector]. An issuer with several lists shows the one that ends first.
func (l lists) Collect(ch chan<- prometheus.Metric) {
	ends, count := map[string]time.Time{}, map[string]int{}
	l.look(func(issuer string, entries int, next time.Time) {
		if first, ok := ends[issuer]; !ok || next.Before(first) {
			ends[issuer] = next
		}
		count[issuer] += entries
	})
	for issuer, next := range ends {
		ch <- prometheus.MustNewConstMetric(l.next, prometheus.GaugeValue, float64(next.Unix()), issuer)
		ch <- prometheus.MustNewConstMetric(l.entries, prometheus.GaugeValue, float64(count[issuer]), issuer)
	}
}
