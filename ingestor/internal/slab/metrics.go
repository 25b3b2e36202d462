package slab

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	waits       prometheus.Counter
	refusals    prometheus.Counter
	allocations prometheus.Counter
}

func newMetrics(name string, p *Pool, reg prometheus.Registerer) *metrics {
	labels := prometheus.Labels{"pool": name}
	m := &metrics{
		waits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ingestor_slab_waits_total", ConstLabels: labels,
			Help: "Requests for a buffer that had to wait for the memory budget.",
		}),
		refusals: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ingestor_slab_refusals_total", ConstLabels: labels,
			Help: "Requests for a buffer that were refused because the memory budget was exhausted.",
		}),
		allocations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "ingestor_slab_allocations_total", ConstLabels: labels,
			Help: "Buffers that had to be allocated because none was free for reuse.",
		}),
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.waits, m.refusals, m.allocations,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ingestor_slab_budget_bytes", ConstLabels: labels,
			Help: "Memory budget of the pool.",
		}, func() float64 { return float64(p.budgetBytes) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "ingestor_slab_used_bytes", ConstLabels: labels,
			Help: "Size of the buffers in use, counted in whole size classes.",
		}, func() float64 { return float64(p.UsedBytes()) }))
	return m
}
