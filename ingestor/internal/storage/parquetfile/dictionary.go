package parquetfile

import "encoding/binary"

// dictionary numbers the different values of a column, in the order in which they first come.
type dictionary struct {
	numbers map[string]int32
	// values holds them plain: each one's length in four bytes, then the value. Keys of numbers lie in it, or in what it was
	// before it grew.
	values []byte
	ends   []uint32
}

// reset forgets all values and keeps the memory.
func (d *dictionary) reset() {
	if d.numbers == nil {
		d.numbers = make(map[string]int32)
	}
	clear(d.numbers)
	d.values, d.ends = d.values[:0], d.ends[:0]
}

// number returns the number of value, which it adds where it is new. ok is false where the dictionary would outgrow its bound.
func (d *dictionary) number(value []byte) (n int32, ok bool) {
	if n, known := d.numbers[string(value)]; known {
		return n, true
	}
	if len(d.values)+len(value) > dictionaryMaxBytes {
		return 0, false
	}
	n = int32(len(d.ends))
	d.values = binary.LittleEndian.AppendUint32(d.values, uint32(len(value)))
	start := len(d.values)
	d.values = append(d.values, value...)
	d.ends = append(d.ends, uint32(len(d.values)))
	d.numbers[textOf(d.values[start:])] = n
	return n, true
}

// value returns value n, aliasing the dictionary.
func (d *dictionary) value(n int32) []byte {
	start := uint32(0)
	if n > 0 {
		start = d.ends[n-1]
	}
	return d.values[start+4 : d.ends[n]]
}
