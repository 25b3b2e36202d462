package ingestion

// ring is a circular list of T. Its links lie in the elements, so that it allocates nothing.
type ring[T any] struct {
	first *link[T]
	n     int
}

// link is an element's place in a ring. It belongs to at most one ring at a time.
type link[T any] struct {
	prev, next *link[T] // nil while in no ring
	owner      *T
}

func (l *link[T]) linked() bool { return l.next != nil }

// front returns the first element, or nil.
func (r *ring[T]) front() *T {
	if r.first == nil {
		return nil
	}
	return r.first.owner
}

// pushBack makes l the last element. REQUIRES: l is in no ring.
func (r *ring[T]) pushBack(l *link[T]) {
	if r.first == nil {
		r.first, l.prev, l.next = l, l, l
	} else {
		l.prev, l.next = r.first.prev, r.first
		l.prev.next, l.next.prev = l, l
	}
	r.n++
}

// rotate makes the first element the last. REQUIRES: the ring is not empty.
func (r *ring[T]) rotate() { r.first = r.first.next }

// remove takes l out. REQUIRES: l is in this ring.
func (r *ring[T]) remove(l *link[T]) {
	switch {
	case r.n == 1:
		r.first = nil
	case r.first == l:
		r.first = l.next
	}
	l.prev.next, l.next.prev = l.next, l.prev
	l.prev, l.next = nil, nil
	r.n--
}
