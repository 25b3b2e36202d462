package timescale

import "github.com/prometheus/client_golang/prometheus"

// counters are the package's Prometheus metrics.
type counters struct {
	rows         *prometheus.CounterVec
	deadLetters  *prometheus.CounterVec
	transactions *prometheus.CounterVec
}

func newCounters(registerer prometheus.Registerer) *counters {
	c := &counters{
		rows: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestor_timescale_rows_total", Help: "Rows committed to the database.",
		}, []string{"table"}),
		deadLetters: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestor_timescale_dead_letters_total", Help: "Rows that the database refused for their content.",
		}, []string{"table"}),
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "ingestor_timescale_transactions_total", Help: "Transactions by outcome: committed, failed, unknown.",
		}, []string{"outcome"}),
	}
	registerer.MustRegister(c.rows, c.deadLetters, c.transactions)
	return c
}

func (c *counters) count(table string, w Written) {
	c.rows.WithLabelValues(table).Add(float64(w.Rows))
	c.deadLetters.WithLabelValues(table).Add(float64(w.DeadLetters))
}
