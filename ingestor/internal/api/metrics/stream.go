package metrics

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/ingestor-project/ingestor/ingestor/internal/api/rpc"
	"github.com/ingestor-project/ingestor/ingestor/internal/refusal"
	metricspb "github.com/ingestor-project/ingestor/proto/metrics/v1"
)

// maxUnanswered bounds the requests of one stream that are submitted and wait for their transaction. Beyond it the
// stream is not read, and gRPC's flow control holds the client.
const maxUnanswered = 64

// answer is one request of a stream: taken, or refused.
type answer struct {
	taken   taken
	refused *refusal.Error
}

// LogMetricStream answers each request, in order. A refused request does not end the stream.
func (a *API) LogMetricStream(stream grpc.ServerStream) error {
	tenant, err := tenantOf(stream.Context())
	if err != nil {
		return err
	}
	answers := make(chan answer, maxUnanswered)
	var end error // why there are no more answers; set before answers is closed
	a.receivers.Go(func() {
		defer close(answers)
		end = a.receiveAll(stream, tenant, answers)
	})
	for next := range answers {
		if err := a.send(stream, next); err != nil {
			return rpc.Error(err)
		}
	}
	return rpc.Error(end)
}

// receiveAll submits requests until the client is done, the stream fails or the server drains.
func (a *API) receiveAll(stream grpc.ServerStream, tenant string, answers chan<- answer) error {
	messages := make(chan *rpc.RawMessage)
	var failed error // set before messages is closed
	a.receivers.Go(func() {
		defer close(messages)
		failed = receive(stream, messages)
	})
	for {
		select {
		case raw, open := <-messages:
			if !open {
				return failed
			}
			select {
			case answers <- a.answer(tenant, raw):
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		case <-a.draining:
			return errDraining
		}
	}
}

// receive reads messages, undecoded. It ends with the stream, at the latest when the handler has returned.
func receive(stream grpc.ServerStream, messages chan<- *rpc.RawMessage) error {
	for {
		raw := new(rpc.RawMessage)
		err := stream.RecvMsg(raw)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case messages <- raw:
		case <-stream.Context().Done():
			raw.Free()
			return stream.Context().Err()
		}
	}
}

// answer submits one request.
func (a *API) answer(tenant string, raw *rpc.RawMessage) answer {
	defer raw.Free()
	request := new(metricspb.LogMetricsRequest)
	err := decode(raw, request)
	var t taken
	if err == nil {
		t, err = a.submit(tenant, request.GetAckLevel(), []*metricspb.LogMetricsRequest{request})
	}
	var refused *refusal.Error
	if errors.As(err, &refused) {
		return answer{refused: refused}
	}
	return answer{taken: t}
}

// send waits for what the request asked for and answers it.
func (a *API) send(stream grpc.ServerStream, next answer) error {
	response := &metricspb.LogMetricsResponse{}
	if next.refused == nil {
		var err error
		response, err = next.taken.response(stream.Context())
		if err != nil && !errors.As(err, &next.refused) {
			return context.Cause(stream.Context())
		}
	}
	if next.refused != nil {
		response = &metricspb.LogMetricsResponse{Error: rpc.BatchError(next.refused)}
	}
	return stream.SendMsg(response)
}
