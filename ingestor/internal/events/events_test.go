package events

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSubscribersGetTheirKinds(t *testing.T) {
	bus := NewBus()
	sealed, err := bus.Subscribe(10, GenerationSealed)
	require.NoError(t, err)
	both, err := bus.Subscribe(10, NewData, GenerationSealed)
	require.NoError(t, err)

	bus.Publish(Event{Kind: NewData, First: 1, Last: 5})
	bus.Publish(Event{Kind: GenerationSealed, First: 1, Last: 5})
	bus.Publish(Event{Kind: Flushed, First: 1, Last: 5, Sink: "parquet"})

	require.Equal(t, Event{Kind: GenerationSealed, First: 1, Last: 5}, <-sealed.Events())
	require.Equal(t, Event{Kind: NewData, First: 1, Last: 5}, <-both.Events())
	require.Equal(t, Event{Kind: GenerationSealed, First: 1, Last: 5}, <-both.Events())

	sealed.Close()
	_, open := <-sealed.Events()
	require.False(t, open)
	bus.Publish(Event{Kind: GenerationSealed, First: 6, Last: 6})
	require.Equal(t, uint64(6), (<-both.Events()).Last)
	bus.Close()
	_, open = <-both.Events()
	require.False(t, open)
	both.Close() // after the bus: no harm

	_, err = bus.Subscribe(1, NewData)
	require.ErrorIs(t, err, ErrClosed)
	_, err = bus.Subscribe(0, NewData)
	require.Error(t, err)
}

// A subscriber that reads nothing for long gets ranges that cover every position, once and in order.
func TestSlowSubscriberMissesNoPosition(t *testing.T) {
	bus := NewBus()
	defer bus.Close()
	s, err := bus.Subscribe(4, NewData, Flushed)
	require.NoError(t, err)
	const last = 10000
	for lsn := uint64(1); lsn <= last; lsn++ {
		bus.Publish(Event{Kind: NewData, First: lsn, Last: lsn})
		bus.Publish(Event{Kind: Flushed, First: lsn, Last: lsn, Sink: "a"})
		bus.Publish(Event{Kind: Flushed, First: lsn, Last: lsn, Sink: "b"})
	}
	s.mu.Lock()
	queued := len(s.queue)
	s.mu.Unlock()
	require.LessOrEqual(t, queued, 4+3)

	type stream struct {
		kind Kind
		sink string
	}
	reached := map[stream]uint64{}
	for len(reached) < 3 || reached[stream{NewData, ""}] < last || reached[stream{Flushed, "a"}] < last ||
		reached[stream{Flushed, "b"}] < last {
		e := <-s.Events()
		key := stream{e.Kind, e.Sink}
		require.Equal(t, reached[key]+1, e.First)
		reached[key] = e.Last
	}
}

func TestConcurrentPublishSubscribeClose(t *testing.T) {
	bus := NewBus()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for lsn := range uint64(1000) {
				bus.Publish(Event{Kind: NewData, First: lsn, Last: lsn})
			}
		})
		group.Go(func() {
			for range 50 {
				s, err := bus.Subscribe(2, NewData)
				if err != nil {
					t.Error(err)
					return
				}
				select {
				case <-s.Events():
				default:
				}
				s.Close()
			}
		})
	}
	group.Wait()
	bus.Close()
}

func TestPublishDoesNotAllocate(t *testing.T) {
	bus := NewBus()
	defer bus.Close()
	_, err := bus.Subscribe(4, NewData)
	require.NoError(t, err)
	for range 100 {
		bus.Publish(Event{Kind: NewData})
	}
	require.Zero(t, testing.AllocsPerRun(100, func() { bus.Publish(Event{Kind: NewData}) }))
}
