package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
	storagepb "github.com/ingestor-project/ingestor/proto/storage"
)

// lane is one producer, and its stream while there is one.
//
//	worker:          admit (waits for room) -> register, ledger "sent" -> SendMsg
//	lane's own run:  open stream -> send again what is unanswered, in order -> receive until the stream ends -> again
//
// The sending lock orders all sends: sequences reach the server in order. A batch registered while the stream is broken is not sent
// by the worker; the next session sends it. The receiver never takes the sending lock while it receives, so a
// send that waits for flow control cannot keep answers from being read.
type lane struct {
	run      *run
	shard    *shard
	conn     *grpc.ClientConn
	tenant   int
	envelope envelope // without endpoint
	producer uint16
	metadata metadata.MD

	sending sync.Mutex
	stream  grpc.ClientStream // nil while broken; guarded by sending
	closing bool              // no more batches will come; guarded by sending

	mu     sync.Mutex
	ring   []sentBatch // unanswered and answered batches from oldest to next, by sequence modulo its length
	oldest uint64      // lowest unanswered sequence
	next   uint64      // sequence of the next new batch

	answered chan struct{} // signals room to the one worker
	done     chan struct{} // closed when run has returned
	err      error         // why run gave up; read after done
}

// sentBatch is a batch between its sending and its answer.
type sentBatch struct {
	ledger.Sent
	flight
	open bool
}

func newLane(r *run, worker, tenant int, producer uint16, conn *grpc.ClientConn) *lane {
	l := &lane{
		run: r, shard: r.recorder.shard(worker), conn: conn, tenant: tenant, producer: producer,
		envelope: r.envelope(producer), metadata: r.credential(tenant),
		ring: make([]sentBatch, r.config.InFlight), oldest: 1, next: 1,
		answered: make(chan struct{}, 1), done: make(chan struct{}),
	}
	return l
}

// send gives a ticket's batch to the lane. It waits while InFlight batches are unanswered.
func (l *lane) send(ctx context.Context, t *ticket) error {
	for !l.hasRoom() {
		select {
		case <-l.answered:
		case <-l.done:
			return l.err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.sending.Lock()
	defer l.sending.Unlock()
	b := l.register(t)
	if err := l.run.book.sent(b.Sent); err != nil {
		return err
	}
	if l.stream == nil {
		return nil // the next session sends it
	}
	message, size := l.encode(b.Batch)
	l.noteSent(b.Sequence, size)
	// A failure shows at the receiver too, which starts the next session.
	_ = l.stream.SendMsg(message)
	return nil
}

// hasRoom reports whether the next sequence lies within the window of InFlight from the oldest unanswered one. Only send fills the
// window, so that what was seen here still holds there.
func (l *lane) hasRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next-l.oldest < uint64(len(l.ring))
}

func (l *lane) register(t *ticket) sentBatch {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := t.batch(time.Now())
	b.Producer, b.Sequence = l.producer, l.next
	if t.closed {
		t.due = l.run.now() // the wait for room is not the server's delay, it is the closed loop
	}
	s := sentBatch{
		Sent:   ledger.Sent{Batch: b, Epoch: l.run.config.Epoch, Tenant: uint32(l.run.config.FirstTenant + l.tenant)},
		flight: flight{phase: t.phase, records: uint64(t.records), due: t.due},
		open:   true,
	}
	l.ring[l.next%uint64(len(l.ring))] = s
	l.next++
	return s
}

func (l *lane) encode(b record.Batch) (message any, bytes int) {
	e := l.envelope
	e.endpoint = l.run.config.Endpoints[b.Endpoint]
	return l.run.encoder.encode(&e, b)
}

func (l *lane) noteSent(sequence uint64, bytes int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.slot(sequence); b != nil {
		l.run.recorder.sent(l.shard, &b.flight, l.run.now(), bytes)
	}
}

// slot returns the unanswered batch with this sequence, or nil. The lock must be held.
func (l *lane) slot(sequence uint64) *sentBatch {
	if sequence < l.oldest || sequence >= l.next {
		return nil
	}
	if b := &l.ring[sequence%uint64(len(l.ring))]; b.open {
		return b
	}
	return nil
}

// close says that no more batches will come. Afterwards done closes once all are answered, or the lane has given up.
func (l *lane) close() {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.closing = true
	if l.stream != nil {
		// A failure shows at the receiver.
		_ = l.stream.CloseSend()
	}
}

// runSessions keeps a stream until the lane is closed and everything is answered, or until it gives up.
func (l *lane) runSessions(ctx context.Context) {
	defer close(l.done)
	failures, failingSince := 0, l.run.now()
	for {
		before := l.settled()
		err := l.session(ctx)
		if l.finished() {
			return
		}
		if failures++; l.settled() > before || l.idle() {
			failures, failingSince = 1, l.run.now()
		}
		l.run.recorder.broken(err)
		l.run.config.Logger.Debug("stream ended", "producer", l.producer, "error", err)
		switch {
		case final(err):
			l.giveUp(ctx, err)
			return
		case l.run.now()-failingSince > l.run.config.RetryFor, pause(ctx, pauseAfter(failures)) != nil:
			l.giveUp(ctx, fmt.Errorf("%w: %w", ErrGaveUp, err))
			return
		}
	}
}

// session opens a stream, sends what is unanswered, and receives until the stream ends.
func (l *lane) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, l.metadata))
	defer cancel()
	stream, err := l.open(ctx)
	if err == nil {
		err = l.receive(stream)
	}
	cancel() // so that a send which waits for flow control lets go of the sending lock
	l.sending.Lock()
	l.stream = nil
	l.sending.Unlock()
	l.doubt()
	return err
}

var writeStream = grpc.StreamDesc{StreamName: "WriteStream", ServerStreams: true, ClientStreams: true}

func (l *lane) open(ctx context.Context) (grpc.ClientStream, error) {
	l.sending.Lock()
	defer l.sending.Unlock()
	ready, cancel := context.WithTimeout(ctx, l.run.config.RetryFor)
	defer cancel()
	if err := awaitReady(ready, l.conn); err != nil {
		return nil, err
	}
	stream, err := l.conn.NewStream(ctx, &writeStream, storagepb.IngestionService_WriteStream_FullMethodName)
	if err != nil {
		return nil, err
	}
	for _, b := range l.unanswered() {
		message, size := l.encode(b.Batch)
		l.noteSent(b.Sequence, size)
		if stream.SendMsg(message) != nil {
			break // the receiver learns why
		}
	}
	if l.closing {
		_ = stream.CloseSend() // a failure shows at the receiver
	}
	l.stream = stream
	return stream, nil
}

func (l *lane) receive(stream grpc.ClientStream) error {
	var r answer
	for {
		if err := stream.RecvMsg(&r); err != nil {
			return err
		}
		if err := l.answer(&r); err != nil {
			return err
		}
	}
}

// errRestart asks for a new stream, because the server wants a batch to be sent again.
var errRestart = errors.New("batch to be sent again")

// answer settles one batch. An error ends the session.
func (l *lane) answer(r *answer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.slot(r.batchID)
	if b == nil {
		return fmt.Errorf("an answer to batch %d, which is not unanswered", r.batchID)
	}
	if r.err == nil {
		if r.records != b.Records {
			return fmt.Errorf("batch %d: %d records sent, %d acked", b.Sequence, b.Records, r.records)
		}
		l.run.recorder.acked(l.shard, &b.flight, l.run.now(), r.level, r.duplicate)
		l.settle(b)
		return l.run.book.acked(&b.Sent, r.level, r.firstLSN, r.duplicate)
	}
	code := r.err.GetCode()
	switch judge(code, b.unsure) {
	case retry:
		// A later batch that is under way may be stored, which makes this one out of order when it is sent again.
		return errors.Join(fmt.Errorf("%w: %s", errRestart, codeName(code)), l.run.book.turnedDown(&b.Sent, code))
	case unsure:
		b.unsure = true
		return fmt.Errorf("%w: %s", errRestart, codeName(code))
	case forsake:
		l.run.recorder.unknown(l.shard, &b.flight)
		l.settle(b)
		return l.run.book.turnedDown(&b.Sent, code)
	default:
		l.run.recorder.refused(l.shard, &b.flight, codeName(code))
		l.settle(b)
		return l.run.book.refused(&b.Sent, code)
	}
}

// settle closes a batch and makes room. The lock must be held.
func (l *lane) settle(b *sentBatch) {
	b.open = false
	for l.oldest < l.next && !l.ring[l.oldest%uint64(len(l.ring))].open {
		l.oldest++
	}
	select {
	case l.answered <- struct{}{}:
	default:
	}
}

// unanswered returns copies of all unanswered batches in order.
func (l *lane) unanswered() []sentBatch {
	l.mu.Lock()
	defer l.mu.Unlock()
	var batches []sentBatch
	for sequence := l.oldest; sequence < l.next; sequence++ {
		if b := l.slot(sequence); b != nil {
			batches = append(batches, *b)
		}
	}
	return batches
}

// doubt marks all unanswered batches as possibly stored, after their stream ended.
func (l *lane) doubt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for sequence := l.oldest; sequence < l.next; sequence++ {
		if b := l.slot(sequence); b != nil {
			b.unsure = b.unsure || b.attempts > 0
		}
	}
}

// finished reports whether the lane is closed and everything is answered.
func (l *lane) finished() bool {
	l.sending.Lock()
	defer l.sending.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing && l.oldest == l.next
}

// idle reports whether everything sent so far is answered.
func (l *lane) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oldest == l.next
}

// settled returns the number of batches settled so far, apart from those above an unanswered one.
func (l *lane) settled() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.oldest
}

// giveUp leaves all unanswered batches unknown.
func (l *lane) giveUp(ctx context.Context, err error) {
	l.err = fmt.Errorf("engine: producer %d: %w", l.producer, err)
	// Noted before done is closed: the worker, once it sees that, ends the run and with it ctx.
	if ctx.Err() == nil {
		l.run.laneFailed(l.err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for sequence := l.oldest; sequence < l.next; sequence++ {
		if b := l.slot(sequence); b != nil {
			b.open = false
			if b.attempts == 0 {
				l.run.recorder.unsent(l.shard, &b.flight)
				continue
			}
			l.run.recorder.unknown(l.shard, &b.flight)
		}
	}
}
