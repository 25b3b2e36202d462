package slab

import "math/bits"

const (
	minClassShift     = 9 // 512 bytes
	classesPerDouble  = 4
	doublings         = 22 // up to 2 GiB
	classCount        = doublings*classesPerDouble + 1
	minClassSizeBytes = 1 << minClassShift
)

// classFor returns the smallest class that holds n bytes; ok is false where none does. REQUIRES: n >= 0.
//
// Classes within one doubling from 2^k are 2^k, 1.25*2^k, 1.5*2^k and 1.75*2^k.
func classFor(n int) (class int, ok bool) {
	if n <= minClassSizeBytes {
		return 0, true
	}
	shift := bits.Len(uint(n-1)) - 1 // 2^shift <= n-1 < 2^(shift+1)
	quarter := 1 << (shift - 2)
	step := (n - 1 - 1<<shift) / quarter // 0 to 3: the quarter that n-1 lies in
	class = (shift-minClassShift)*classesPerDouble + step + 1
	return class, class < classCount
}

// classSizeBytes is the inverse of classFor.
func classSizeBytes(class int) int {
	base := minClassSizeBytes << (class / classesPerDouble)
	return base + base/classesPerDouble*(class%classesPerDouble)
}
