package metrics

import "github.com/prometheus/client_golang/prometheus"

// counters are the service's own Prometheus metrics. At any time
// accepted = written + dead-lettered + dropped + uncertain + depth.
type counters struct {
	accepted, refused, written, deadLettered, dropped, uncertain, retries prometheus.Counter
	depth                                                                 prometheus.Gauge
}

func newCounters(registerer prometheus.Registerer) *counters {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "ingestor_metrics_" + name + "_total", Help: help})
		registerer.MustRegister(c)
		return c
	}
	c := &counters{
		accepted:     counter("accepted", "Metrics taken into the buffer."),
		refused:      counter("refused", "Metrics refused because the buffer was full or the server was stopping."),
		written:      counter("written", "Metrics committed to the database."),
		deadLettered: counter("dead_lettered", "Metrics that the database refused for their content."),
		dropped:      counter("dropped", "Metrics given up at shutdown."),
		uncertain:    counter("uncertain", "Metrics given up at shutdown while the outcome of their transaction was unknown."),
		retries:      counter("write_retries", "Failed attempts to write a batch of metrics."),
		depth: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "ingestor_metrics_buffered", Help: "Metrics accepted and not yet written.",
		}),
	}
	registerer.MustRegister(c.depth)
	return c
}
