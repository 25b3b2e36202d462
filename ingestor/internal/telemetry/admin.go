package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Probe answers nil, or why the server is not healthy or not ready.
type Probe func() error

// Admin serves the admin port: /-/healthy, /-/ready, /metrics, /debug/stages and /debug/pprof. It is plain HTTP without
// authentication; bind it to a private address.
type Admin struct {
	server   *http.Server
	listener net.Listener
	done     chan struct{}
	err      error
}

// StartAdmin listens on address and serves until Close. The serving goroutine belongs to the returned Admin.
func StartAdmin(address string, gatherer prometheus.Gatherer, stages *Stages, healthy, ready Probe, log *slog.Logger) (*Admin, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the admin port: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /-/healthy", probeHandler(healthy))
	mux.Handle("GET /-/ready", probeHandler(ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/stages", func(w http.ResponseWriter, _ *http.Request) { writeStages(w, stages, log) })
	mux.HandleFunc("POST /debug/stages/reset", func(w http.ResponseWriter, _ *http.Request) {
		stages.Reset()
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)

	a := &Admin{
		server:   &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second},
		listener: listener,
		done:     make(chan struct{}),
	}
	go func() {
		defer close(a.done)
		if err := a.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.err = err
		}
	}()
	return a, nil
}

// Address is the address that it listens on, with the port that was chosen.
func (a *Admin) Address() string { return a.listener.Addr().String() }

// Close stops serving, waiting for requests under way until ctx ends, and returns what ended the server if that was not Close.
func (a *Admin) Close(ctx context.Context) error {
	err := a.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, a.server.Close())
	}
	<-a.done
	return errors.Join(err, a.err)
}

func probeHandler(probe Probe) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := probe(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

func writeStages(w http.ResponseWriter, stages *Stages, log *slog.Logger) {
	report, err := stages.Report()
	if err != nil {
		log.Error("stage histograms", "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(map[string]any{"stages": report}); err != nil {
		log.Debug("stage histograms not delivered", "error", err)
	}
}
