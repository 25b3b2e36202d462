package parquetfile

import (
	"hash/maphash"
	"math/bits"
)

// fingerprint digests what a file's columns hold, value by value in the order of rows. It is taken when a file is written and
// again when it is read back; both times within one process, whose seed it depends on.
type fingerprint [columnCount]uint64

var fingerprintSeed = maphash.MakeSeed()

// nullDigest stands for a missing value.
const nullDigest = 0x6a09e667f3bcc909

func digest(value []byte) uint64 { return maphash.Bytes(fingerprintSeed, value) }

func (f *fingerprint) add(column int, digest uint64) {
	f[column] = (bits.RotateLeft64(f[column], 5) ^ digest) * 0x9e3779b97f4a7c15
}
