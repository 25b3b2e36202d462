package blockdev

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Sizes of what a device writes at once.
const (
	// SectorBytes is the logical sector: the smallest thing that can be written.
	SectorBytes = 512
	// BlockBytes is the physical sector of today's drives, and the block of both file systems.
	BlockBytes = 4096
)

// page is a block's content. It is never changed after it has got into an image: images share pages.
type page [BlockBytes]byte

// image is the content of a device by block; nil is a block of zeros.
type image []*page

func newImage(sizeBytes int64) image { return make(image, sizeBytes/BlockBytes) }

// loadImage reads a file; what it has no blocks for is zeros.
func loadImage(path string) (im image, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size()%BlockBytes != 0 {
		return nil, fmt.Errorf("blockdev: %s has %d bytes, which are no whole blocks", path, info.Size())
	}
	im = newImage(info.Size())
	buffer := make([]byte, 1<<20)
	for offset := int64(0); ; {
		n, err := f.ReadAt(buffer, offset)
		im.place(offset, buffer[:n])
		offset += int64(n)
		if errors.Is(err, io.EOF) {
			return im, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// clone is an image that changes by itself. It shares all pages.
func (im image) clone() image { return slices.Clone(im) }

// read fills b from offset on. REQUIRES: the range lies inside.
func (im image) read(offset int64, b []byte) {
	for len(b) > 0 {
		within := offset % BlockBytes
		n := min(int64(len(b)), BlockBytes-within)
		if p := im[offset/BlockBytes]; p != nil {
			copy(b[:n], p[within:])
		} else {
			clear(b[:n])
		}
		b, offset = b[n:], offset+n
	}
}

// place writes b at offset by putting new pages in place of those it touches, and returns them. b is not kept. REQUIRES: the range
// lies inside.
func (im image) place(offset int64, b []byte) (touched []*page) {
	for len(b) > 0 {
		index, within := offset/BlockBytes, offset%BlockBytes
		n := min(int64(len(b)), BlockBytes-within)
		fresh := new(page)
		if old := im[index]; old != nil && n < BlockBytes {
			*fresh = *old
		}
		copy(fresh[within:], b[:n])
		if *fresh == (page{}) {
			fresh = nil
		}
		im[index] = fresh
		touched = append(touched, fresh)
		b, offset = b[n:], offset+n
	}
	return touched
}
