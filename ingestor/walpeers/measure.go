package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// sample is what one round measured of one peer.
type sample struct {
	recordsPerSecond float64
	syncs            uint64
	p50, p99         time.Duration
}

// measure opens a peer in a new directory below parent, lets callers append for as long as d, and removes the directory.
func measure(p *peer, parent string, w workload, d time.Duration) (s sample, err error) {
	dir, err := os.MkdirTemp(parent, "walpeers-")
	if err != nil {
		return s, err
	}
	defer func() {
		if err = errors.Join(err, os.RemoveAll(dir), syncFileSystem(parent)); err != nil {
			err = fmt.Errorf("%s: %w", p.name, err)
		}
	}()
	l, err := p.open(dir, w)
	if err != nil {
		return s, err
	}
	if err := syncFileSystem(parent); err != nil {
		return s, errors.Join(err, l.close())
	}
	s, err = load(l, p.single, w, d)
	return s, errors.Join(err, l.close())
}

// load runs the callers.
func load(l log, single bool, w workload, d time.Duration) (s sample, err error) {
	if single {
		w.callers, w.records = 1, w.callers*w.records
	}
	before, err := l.syncs()
	if err != nil {
		return s, err
	}
	took := make([][]time.Duration, w.callers)
	errs := make([]error, w.callers)
	var running sync.WaitGroup
	began := time.Now()
	for i := range w.callers {
		running.Go(func() { took[i], errs[i] = call(l, uint32(i), w.payloadBytes(), began.Add(d)) })
	}
	running.Wait()
	elapsed := time.Since(began)
	after, err := l.syncs()
	if err = errors.Join(append(errs, err)...); err != nil {
		return s, err
	}
	all := slices.Concat(took...)
	slices.Sort(all)
	return sample{
		recordsPerSecond: float64(len(all)*w.records) / elapsed.Seconds(), syncs: after - before,
		p50: all[len(all)/2], p99: all[len(all)*99/100],
	}, nil
}

// call is a caller: it appends until the time has come and returns how long each append took.
func call(l log, caller uint32, payloadBytes int, until time.Time) (took []time.Duration, err error) {
	payload := make([]byte, payloadBytes)
	fill(payload, caller)
	for number, now := uint32(0), time.Now(); now.Before(until); number++ {
		identity{caller, number}.stamp(payload)
		if err := l.append(payload); err != nil {
			return took, err
		}
		done := time.Now()
		took = append(took, done.Sub(now))
		now = done
	}
	return took, nil
}

// median returns the median of what f says of the samples.
func median[T float64 | uint64 | time.Duration](samples []sample, f func(sample) T) T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = f(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// summary is the median of each figure.
func summary(samples []sample) sample {
	return sample{
		recordsPerSecond: median(samples, func(s sample) float64 { return s.recordsPerSecond }),
		syncs:            median(samples, func(s sample) uint64 { return s.syncs }),
		p50:              median(samples, func(s sample) time.Duration { return s.p50 }),
		p99:              median(samples, func(s sample) time.Duration { return s.p99 }),
	}
}
