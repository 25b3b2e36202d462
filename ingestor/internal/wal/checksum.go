package wal

import (
	"hash/crc32"
	"math/bits"
)

// The CRC32C of a frame covers a header, most of which is known only when the group is written, and a payload that is known long before.
// A CRC is linear: that of A followed by n bytes B is the CRC of A, multiplied by x^8n modulo the polynomial, plus the CRC of B
// (Mark Adler's crc32_combine in zlib describes the same; here the factor is kept, as most frames of a log are of few sizes).
// So the payload is summed up when it is appended, while the group before is written and synced, and the header alone afterwards.
//
// Polynomials are stored as CRCs are: the bit of x^0 is the highest.

// earlyBytes is the size from which on a payload is summed up early. To sum up a smaller one costs no more than the multiplication.
const earlyBytes = 4 << 10

// polynomialOne is the polynomial 1.
const polynomialOne = 1 << 31

// multiply returns a times b modulo the polynomial of CRC32C.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}

// squares holds x^(2^i) modulo the polynomial.
var squares = func() (s [64]uint32) {
	s[0] = polynomialOne >> 1
	for i := 1; i < len(s); i++ {
		s[i] = multiply(s[i-1], s[i-1])
	}
	return s
}()

// appending is the factor by which n bytes that follow multiply a CRC: x^8n.
type appending struct {
	n      int
	factor uint32
}

// bytes makes it the factor of n bytes.
func (a *appending) bytes(n int) uint32 {
	if a.factor == 0 || a.n != n {
		a.n, a.factor = n, polynomialOne
		for e := uint64(n) * 8; e != 0; e &= e - 1 {
			a.factor = multiply(a.factor, squares[bits.TrailingZeros64(e)])
		}
	}
	return a.factor
}
