package parquetfile

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// worker runs functions, one at a time, on an operating system thread of its own with a nice value.
type worker struct {
	work chan func() error
	done chan error
}

func startWorker(niceness int) (*worker, error) {
	w := &worker{work: make(chan func() error), done: make(chan error)}
	go w.run(niceness)
	if err := <-w.done; err != nil {
		return nil, err
	}
	return w, nil
}

func (w *worker) run(niceness int) {
	// Never unlocked: the thread ends with the goroutine, and its nice value with it.
	runtime.LockOSThread()
	err := unix.Setpriority(unix.PRIO_PROCESS, unix.Gettid(), niceness)
	w.done <- err
	if err != nil {
		return
	}
	for work := range w.work {
		w.done <- work()
	}
	close(w.done)
}

// do runs work and returns its error.
func (w *worker) do(work func() error) error {
	w.work <- work
	return <-w.done
}

// close ends the goroutine and waits for it.
func (w *worker) close() {
	close(w.work)
	for range w.done { // nothing is under way: it is closed by the goroutine as it ends
	}
}
