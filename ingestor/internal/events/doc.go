// Package events tells the parts of the server what happened in the log: new data, sealed generations, flushes. It
// carries positions, not data.
//
// Publishing never blocks and never allocates in steady state. Every subscription has a queue of bounded length;
// where it is full, an event is merged into the last queued one of the same kind and sink, and its range of positions
// grows. As ranges of one kind and sink follow each other without gaps, a slow subscriber sees fewer and larger
// events but misses no position.
//
// Each subscription has one goroutine, which moves events from the queue to the subscriber's channel.
// Subscription.Close and Bus.Close stop and join it.
package events
