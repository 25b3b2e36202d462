package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/ingestor-project/ingestor/loadgen/record"
)

// run is the state that all goroutines of one Run share. Its fields do not change once the workers have started.
type run struct {
	config   Config
	started  time.Time
	schedule *schedule
	recorder *recorder
	encoder  encoder
	book     book

	lanes  sync.WaitGroup
	mu     sync.Mutex
	failed []error // why lanes gave up
}

// Run puts the load of c on the server and returns what it showed. Refusals are figures, not errors. When ctx ends, a lane gives up
// (ErrGaveUp, or the credential is refused), or the ledger cannot be written, the run stops early; the result then covers what
// was done, beside the error.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	conns, err := dial(&c)
	if err != nil {
		return nil, err
	}
	r := &run{config: c, schedule: newSchedule(&c), book: book{c.Ledger}, encoder: newEncoder(&c)}
	r.recorder = newRecorder(len(c.Phases), c.Connections*c.Streams, r.schedule)
	cpu := processCPU()
	r.started = time.Now()
	timeline, runErr := r.play(ctx, conns)
	elapsed := r.now()
	end := elapsed
	if runErr == nil {
		// The last batch is answered before the next would be due: the time between belongs to the schedule.
		end = max(end, r.schedule.end)
	}
	result := &Result{
		Config: c, Started: r.started, Elapsed: elapsed, Timeline: timeline, ClientCPU: processCPU() - cpu,
		Phases: r.recorder.results(&c, end),
	}
	result.Measured = measured(result.Phases)
	for _, err := range r.failed {
		result.LaneErrors = append(result.LaneErrors, err.Error())
	}
	errs := []error{runErr}
	for _, conn := range conns {
		errs = append(errs, conn.Close())
	}
	if c.Ledger != nil {
		errs = append(errs, c.Ledger.Flush())
	}
	return result, errors.Join(errs...)
}

func newEncoder(c *Config) encoder {
	switch {
	case c.Script != nil:
		return &liveEncoder{source: c.Script, layout: c.Layout}
	case c.Client == Live:
		return newLiveEncoder(c.Spec, c.Layout)
	}
	p := newPreparedEncoder(c.Spec, c.Layout)
	if c.Method != Metrics {
		p.prepare(c.BatchRecords)
	}
	return p
}

// play runs all workers to their end and returns the samples taken meanwhile.
func (r *run) play(ctx context.Context, conns []*grpc.ClientConn) ([]Sample, error) {
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	sampling, stopSampling := context.WithCancel(ctx)
	var timeline []Sample
	var observers sync.WaitGroup
	observers.Go(func() { timeline = r.observe(sampling) })
	observers.Go(func() { r.expire(sampling, cancel) })

	var workers sync.WaitGroup
	for w := range r.config.Connections * r.config.Streams {
		workers.Go(func() {
			if err := r.work(ctx, w, conns[w%len(conns)]); err != nil {
				r.schedule.stop()
				cancel(err)
			}
		})
	}
	workers.Wait()
	r.lanes.Wait()
	stopSampling()
	observers.Wait()
	if outer.Err() != nil {
		return timeline, outer.Err()
	}
	if cause := context.Cause(ctx); cause != nil {
		return timeline, cause
	}
	return timeline, r.laneError()
}

// laneFailed notes why a lane gave up.
func (r *run) laneFailed(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, err)
}

// laneError returns why the first lane gave up, if any did.
func (r *run) laneError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failed) == 0 {
		return nil
	}
	return fmt.Errorf("lanes that gave up: %d, the first: %w", len(r.failed), r.failed[0])
}

// expire ends a run whose last batches are not answered in time.
func (r *run) expire(ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-r.schedule.ended:
	case <-ctx.Done():
		return
	}
	if pause(ctx, r.config.RetryFor) == nil {
		cancel(ErrGaveUp)
	}
}

// sender is a worker's way to the server.
type sender interface {
	send(ctx context.Context, t *ticket) error
}

// work draws tickets, waits until they are due, and sends them. An error ends the run.
func (r *run) work(ctx context.Context, worker int, conn *grpc.ClientConn) (err error) {
	sleep := coarseSleep
	if !r.config.CoarseTimers {
		sleeper, timerErr := newSleeper()
		if timerErr != nil {
			return timerErr
		}
		defer func() { err = errors.Join(err, sleeper.close()) }()
		sleep = sleeper.sleep
	}
	streams := make(map[int]*lane)
	defer func() {
		for _, l := range streams {
			l.close()
		}
	}()
	calls := newCaller(r, worker, conn)
	for ctx.Err() == nil {
		t, ok := r.schedule.next(r.now())
		if !ok {
			return nil
		}
		if wait := t.due - r.now(); wait > 0 {
			if err := sleep(ctx, wait); err != nil {
				return stopped(ctx, err)
			}
		}
		var to sender = calls
		if r.config.Method == Stream {
			to = r.lane(ctx, streams, worker, t.tenant, conn)
		}
		if err := to.send(ctx, &t); err != nil {
			return stopped(ctx, err)
		}
	}
	return nil
}

// stopped drops an error that only says that the run's context has ended.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// lane returns the worker's lane for a tenant, and starts it the first time.
func (r *run) lane(ctx context.Context, lanes map[int]*lane, worker, tenant int, conn *grpc.ClientConn) *lane {
	l := lanes[tenant]
	if l == nil {
		l = newLane(r, worker, tenant, r.producer(worker, tenant), conn)
		lanes[tenant] = l
		r.lanes.Go(func() { l.runSessions(ctx) })
	}
	return l
}

// observe takes a sample each second, and a last one at the end.
func (r *run) observe(ctx context.Context) []Sample {
	s := sampler{recorder: r.recorder}
	for _, p := range r.config.Phases {
		s.names = append(s.names, p.Name)
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var timeline []Sample
	for {
		ended := false
		select {
		case <-ticker.C:
		case <-ctx.Done():
			ended = true
		}
		sample := s.sample(r.now())
		timeline = append(timeline, sample)
		if r.config.Progress != nil {
			r.config.Progress(sample)
		}
		if ended {
			return timeline
		}
	}
}

// now is the time since the start of the run.
func (r *run) now() time.Duration { return time.Since(r.started) }

// producer is the number of the producer that a worker is for a tenant.
func (r *run) producer(worker, tenant int) uint16 {
	return uint16(r.config.FirstProducer + worker*len(r.config.Tenants) + tenant)
}

func (r *run) envelope(producer uint16) envelope {
	id := record.ProducerID(r.config.RunID, producer)
	contentType := r.config.Spec.ContentType()
	if r.config.Script != nil {
		contentType = r.config.Script.ContentType()
	}
	return envelope{ackLevel: r.config.AckLevel, producerID: id[:], epoch: r.config.Epoch, contentType: contentType}
}

func (r *run) credential(tenant int) metadata.MD {
	if key := r.config.Tenants[tenant].APIKey; key != "" {
		return metadata.Pairs("authorization", "Bearer "+key)
	}
	return nil
}

// dial makes the connections. They connect in the background.
func dial(c *Config) ([]*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if c.TLS != nil {
		transport = credentials.NewTLS(c.TLS)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newRawCodec())),
		grpc.WithDisableRetry(), // lanes and callers send again by themselves, and know what may be stored
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxPause},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	target := c.Target
	if c.Dialer != nil {
		target = "passthrough:///" + target
		options = append(options, grpc.WithContextDialer(c.Dialer))
	}
	var conns []*grpc.ClientConn
	for range c.Connections {
		conn, err := grpc.NewClient(target, options...)
		if err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
		conn.Connect()
		conns = append(conns, conn)
	}
	return conns, nil
}

// awaitReady waits until conn has a connection.
func awaitReady(ctx context.Context, conn *grpc.ClientConn) error {
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return nil
		}
		conn.Connect()
		if !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("no connection to the server: %w", ctx.Err())
		}
	}
}
