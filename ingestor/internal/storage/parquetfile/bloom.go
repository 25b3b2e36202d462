package parquetfile

import (
	"unsafe"

	"github.com/parquet-go/parquet-go/bloom"
	"github.com/parquet-go/parquet-go/bloom/xxhash"
	"github.com/parquet-go/parquet-go/format"
)

// bloomBitsPerID makes about one lookup in a hundred a false alarm.
const bloomBitsPerID = 10

// filter is the Bloom filter of a row group's event ids: a split-block filter over XXH64, as Parquet has it.
type filter struct {
	on     bool
	blocks bloom.SplitBlockFilter
	hashes [pageIDRows]uint64
}

// reset makes the filter empty, and large enough for ids event ids.
func (f *filter) reset(on bool, ids int) {
	if f.on = on; !on {
		return
	}
	n := bloom.NumSplitBlocksOf(int64(ids), bloomBitsPerID)
	if cap(f.blocks) < n {
		f.blocks = make(bloom.SplitBlockFilter, n)
	}
	f.blocks = f.blocks[:n]
	f.blocks.Reset()
}

// add adds event ids that lie one behind the other, at most pageIDRows.
func (f *filter) add(ids []byte) {
	if !f.on || len(ids) == 0 {
		return
	}
	n := len(ids) / eventIDBytes
	xxhash.MultiSum64Uint128(f.hashes[:n], unsafe.Slice((*[eventIDBytes]byte)(unsafe.Pointer(&ids[0])), n))
	f.blocks.InsertBulk(f.hashes[:n])
}

// addFilter writes the filter behind the row group's pages.
func (e *encoder) addFilter(c *chunk) error {
	if !e.filter.on {
		return nil
	}
	begin := len(e.out)
	bits := e.filter.blocks.Bytes()
	err := e.appendThrift(&format.BloomFilterHeader{
		NumBytes:    int32(len(bits)),
		Algorithm:   format.BloomFilterAlgorithm{Value: &format.SplitBlockAlgorithm{}},
		Hash:        format.BloomFilterHash{Value: &format.XxHash{}},
		Compression: format.BloomFilterCompression{Value: &format.BloomFilterUncompressed{}},
	})
	if err != nil {
		return err
	}
	e.out = append(e.out, bits...)
	c.meta.BloomFilterOffset, c.meta.BloomFilterLength = int64(begin), int32(len(e.out)-begin)
	return nil
}
