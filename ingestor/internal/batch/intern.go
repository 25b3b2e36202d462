package batch

import (
	"bytes"
	"hash/maphash"
)

// internSlots is how many sets of attributes are remembered. Each set has one slot, which the next one that falls into it takes over.
const internSlots = 1 << 10

var internSeed = maphash.MakeSeed()

// interner remembers where attributes were written to Rows.Attrs, so that equal ones are written once as long as there are not
// too many different ones. It holds no pointers.
type interner struct {
	// encoded finds attributes by their bytes in a row's message.
	encoded [internSlots]encodedAttributes
	// objects finds them by their JSON.
	objects [internSlots]object
}

type encodedAttributes struct {
	batch  uint32 // index into Rows.Raws
	bytes  span   // empty in a free slot
	object object
}

// object is a JSON object in Rows.Attrs; length is 0 in a free slot.
type object struct {
	offset uint64
	length uint32
}

func (n *interner) reset() { *n = interner{} }

// encodedSpan returns the bytes that hold attributes, where they lie one directly behind the other in their usual form: each
// entry's tag and length, the key's tag, its length, the key, the value's tag, its length, the value, all tags and lengths one
// byte. Equal bytes are equal attributes then, because they begin with the first key's length. ok is false for other forms.
func encodedSpan(raw []byte, attributes []attribute) (s span, ok bool) {
	const valueHead = 2      // tag and length before a value
	const entryHead = 2 + 2  // tag and length of an entry, then of its key
	const longest = 1<<7 - 1 // what a length of one byte can say
	first, last := attributes[0], attributes[len(attributes)-1]
	for i, a := range attributes {
		if a.value.start != a.key.end+valueHead || a.value.end-a.key.start > longest-2 ||
			i > 0 && a.key.start != attributes[i-1].value.end+entryHead || raw[a.key.start-1] != byte(a.key.len()) {
			return span{}, false
		}
	}
	return span{first.key.start - 1, last.value.end}, true
}

// internEncoded returns the slot for attributes that lie in s of the batch under way, and the object that equal ones have.
func (r *Rows) internEncoded(raw []byte, s span) (slot *encodedAttributes, known bool) {
	b := s.of(raw)
	slot = &r.interner.encoded[maphash.Bytes(internSeed, b)%internSlots]
	known = slot.bytes.len() == len(b) && len(b) > 0 && bytes.Equal(slot.bytes.of(r.Raws[slot.batch]), b)
	return slot, known
}

// internObject returns the object that equals Attrs[start:], and drops that one, where there is an earlier one; otherwise it
// returns Attrs[start:].
func (r *Rows) internObject(start int) object {
	b := r.Attrs[start:]
	slot := &r.interner.objects[maphash.Bytes(internSeed, b)%internSlots]
	if int(slot.length) == len(b) && bytes.Equal(r.Attrs[slot.offset:slot.offset+uint64(slot.length)], b) {
		r.Attrs = r.Attrs[:start]
		return *slot
	}
	*slot = object{uint64(start), uint32(len(b))}
	return *slot
}
