// Package slab hands out recycled byte buffers within a fixed budget. It is the server's memory limit: the bytes of
// every batch live in a slab buffer from their receipt until all sinks have flushed them, so that the sum of queue,
// memtables and sealed generations can never exceed the budget.
//
// Buffers come in size classes, four to a doubling, so that at most a fifth of a buffer is unused (more for tiny
// ones). The budget counts whole classes, those in use and those kept for reuse. When a class has no free buffer and
// the budget has no room for a new one, free buffers of other classes are given to the garbage collector.
//
// Get waits in order of arrival: a large request is not starved by small ones behind it. In steady state neither Get
// nor Release allocates.
package slab
