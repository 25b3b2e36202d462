package pgproxy

import "slices"

// Point is where a Fault cuts a connection.
type Point int

// The points.
const (
	// BeforeCommit: the server never gets the COMMIT and rolls back.
	BeforeCommit Point = iota
	// AfterCommit: the server has committed and said so, and the client does not get the answer.
	AfterCommit
	// InCopy: the server has a part of the rows.
	InCopy
)

func (p Point) String() string {
	return [...]string{"before COMMIT", "after COMMIT", "in COPY"}[p]
}

// Fault is one cut to come.
type Fault struct {
	Point Point
	// Table binds the fault to transactions that copy into it, as the COPY names it; empty: to any transaction.
	Table string
	// Skip lets that many occasions pass before.
	Skip int
	// CopyBytes is how much of a COPY's data the server gets at InCopy. A COPY with less is no occasion.
	CopyBytes int
}

type fault struct {
	Fault
	happened chan struct{}
}

// Arm adds a fault, and returns a channel that is closed when it has happened. It happens once.
func (p *Proxy) Arm(f Fault) (happened <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	armed := &fault{Fault: f, happened: make(chan struct{})}
	p.faults = append(p.faults, armed)
	return armed.happened
}

// take returns an armed fault for an occasion, and disarms it; nil where there is none or it lets the occasion pass.
func (p *Proxy) take(matches func(*fault) bool) *fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.faults, matches)
	if i < 0 {
		return nil
	}
	f := p.faults[i]
	if f.Skip > 0 {
		f.Skip--
		return nil
	}
	p.faults = slices.Delete(p.faults, i, i+1)
	return f
}

// giveBack arms a fault again whose occasion was none.
func (p *Proxy) giveBack(f *fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, f)
}
