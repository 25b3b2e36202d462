package parquetfile

import (
	"fmt"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
)

// Compression names the codec of a file's pages.
type Compression string

// The codecs.
const (
	Zstd   Compression = "zstd" // at its fastest level
	Snappy Compression = "snappy"
	None   Compression = "none"
)

const (
	// Pages smaller than this stay as they are: readers would gain nothing.
	minCompressBytes = 128
	// A page must shrink by a sixteenth, or it is stored as it is, and so are the next skipPages pages of its column, untried.
	minGainShift = 4
	skipPages    = 15
)

// compressor compresses pages. It belongs to one goroutine.
type compressor struct {
	codec  format.CompressionCodec
	zstd   *zstd.Encoder // nil for other codecs
	packed []byte
}

func newCompressor(c Compression) (*compressor, error) {
	switch c {
	case Zstd:
		encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderCRC(false))
		return &compressor{codec: format.Zstd, zstd: encoder}, err
	case Snappy:
		return &compressor{codec: format.Snappy}, nil
	case None:
		return &compressor{codec: format.Uncompressed}, nil
	}
	return nil, fmt.Errorf("parquet.compression: %q is not one of zstd, snappy, none", string(c))
}

// compress returns b compressed; the result is valid until the next call.
func (c *compressor) compress(b []byte) []byte {
	switch c.codec {
	case format.Zstd:
		c.packed = c.zstd.EncodeAll(b, c.packed[:0])
	case format.Snappy:
		c.packed = snappy.Encode(c.packed[:cap(c.packed)], b)
	default:
		return b
	}
	return c.packed
}

// trial decides page by page whether compressing a column is worth while.
type trial struct{ skip int }

// compress returns b compressed where that pays, b itself otherwise.
func (t *trial) compress(c *compressor, b []byte) (stored []byte, compressed bool) {
	switch {
	case c.codec == format.Uncompressed || len(b) < minCompressBytes:
		return b, false
	case t.skip > 0:
		t.skip--
		return b, false
	}
	if packed := c.compress(b); len(packed) <= len(b)-len(b)>>minGainShift {
		return packed, true
	}
	t.skip = skipPages
	return b, false
}
