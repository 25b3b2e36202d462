package parquetfile

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// worker runs functions, one at a time, on a goroutine of its own; with a nice value above 0 that has an operating system thread
// of its own, which has the nice value.
type worker struct {
	work chan func() error
	done chan error
}

func startWorker(niceness int) (*worker, error) {
	w := &worker{work: make(chan func() error), done: make(chan error)}
	go w.run(niceness)
	if err := w.wait(); err != nil {
		return nil, err
	}
	return w, nil
}

func (w *worker) run(niceness int) {
	if niceness > 0 {
		// Never unlocked: the thread ends with the goroutine, and its nice value with it.
		runtime.LockOSThread()
		err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness)
		w.done <- err
		if err != nil {
			return
		}
	} else {
		w.done <- nil
	}
	for work := range w.work {
		w.done <- work()
	}
	close(w.done)
}

// start lets the worker run work. A call of wait must follow before the next start.
func (w *worker) start(work func() error) { w.work <- work }

// wait returns the error of what was started.
func (w *worker) wait() error { return <-w.done }

// do runs work and returns its error.
func (w *worker) do(work func() error) error {
	w.start(work)
	return w.wait()
}

// close ends the goroutine and waits for it.
func (w *worker) close() {
	close(w.work)
	for range w.done { // nothing is under way: it is closed by the goroutine as it ends
	}
}
