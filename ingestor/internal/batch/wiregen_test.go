package batch

import (
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// wireGenerator writes requests as no protobuf library would, but as every one must read them: fields out of order and
// repeated, unknown fields and groups in between, varints longer than needed, arrays in all their encodings. A good part of
// what it writes is valid; some values are deliberately not.
type wireGenerator struct{ *rand.Rand }

// rarely is true once in n times.
func (g wireGenerator) rarely(n int) bool { return g.IntN(n) == 0 }

// varint encodes v, rarely in more bytes than needed.
func (g wireGenerator) varint(v uint64) []byte {
	b := protowire.AppendVarint(nil, v)
	for g.rarely(40) && len(b) < 10 {
		b[len(b)-1] |= 0x80
		b = append(b, 0)
	}
	return b
}

func (g wireGenerator) tag(number protowire.Number, wireType protowire.Type) []byte {
	return g.varint(protowire.EncodeTag(number, wireType))
}

func (g wireGenerator) varintField(number protowire.Number, v uint64) []byte {
	return append(g.tag(number, protowire.VarintType), g.varint(v)...)
}

func (g wireGenerator) bytesField(number protowire.Number, content []byte) []byte {
	return append(append(g.tag(number, protowire.BytesType), g.varint(uint64(len(content)))...), content...)
}

func (g wireGenerator) fixed64Field(number protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(g.tag(number, protowire.Fixed64Type), v)
}

func (g wireGenerator) fixed32Field(number protowire.Number, v uint32) []byte {
	return protowire.AppendFixed32(g.tag(number, protowire.Fixed32Type), v)
}

// unknown returns a field that no message has, or one with the wrong wire type.
func (g wireGenerator) unknown(depth int) []byte {
	number := protowire.Number(1 + g.IntN(20))
	switch g.IntN(5) {
	case 0:
		return g.varintField(number, g.Uint64())
	case 1:
		return g.bytesField(number+20, []byte("opaque"))
	case 2:
		return g.fixed32Field(number, g.Uint32())
	case 3:
		return g.fixed64Field(number+20, g.Uint64())
	default:
		group := g.tag(number, protowire.StartGroupType)
		for depth > 0 && g.rarely(2) {
			group = append(group, g.unknown(depth-1)...)
		}
		return append(group, g.tag(number, protowire.EndGroupType)...)
	}
}

// message joins fields, rarely in another order, with a repetition or with unknown fields in between.
func (g wireGenerator) message(fields [][]byte) []byte {
	if g.rarely(8) {
		g.Shuffle(len(fields), func(i, j int) { fields[i], fields[j] = fields[j], fields[i] })
	}
	var b []byte
	for _, field := range fields {
		if g.rarely(25) {
			b = append(b, g.unknown(3)...)
		}
		b = append(b, field...)
		if g.rarely(40) {
			b = append(b, field...)
		}
	}
	return b
}

// text returns a short string: mostly one of a few, rarely one that is empty, not ASCII, with NUL, or not UTF-8.
func (g wireGenerator) text(usual ...string) []byte {
	if g.rarely(60) {
		odd := []string{"", "\x00", "\xff", "naïve", "\"\\\n\x01", "\xed\xa0\x80", "日本", "aaaaaaaaaaaa\xc3", strings.Repeat("k", 133)}
		return []byte(odd[g.IntN(len(odd))])
	}
	return []byte(usual[g.IntN(len(usual))])
}

func (g wireGenerator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.Uint32())
	}
	return b
}

// time returns a timestamp, rarely one out of range.
func (g wireGenerator) time() uint64 {
	if g.rarely(80) {
		return []uint64{0, 1 << 63, 1<<63 - 1, ^uint64(0)}[g.IntN(4)]
	}
	return 1_700_000_000_000_000_000 + g.Uint64N(1_000_000)
}

func (g wireGenerator) eventID() []byte {
	if g.rarely(80) {
		return g.bytes(g.IntN(20))
	}
	return g.bytes(16)
}

func (g wireGenerator) request() []byte {
	fields := [][]byte{g.varintField(1, g.Uint64())}
	if !g.rarely(50) {
		fields = append(fields, g.bytesField(2, g.text("orders")))
	}
	if g.rarely(2) {
		fields = append(fields, g.varintField(3, g.Uint64N(4)))
	}
	if g.rarely(50) {
		fields = append(fields, g.varintField(3, g.Uint64()))
	}
	if g.rarely(3) {
		fields = append(fields, g.bytesField(4, g.eventID()), g.varintField(5, g.Uint64()), g.varintField(6, g.Uint64N(50)))
	}
	if g.rarely(3) {
		fields = append(fields, g.bytesField(7, g.text("application/json", "text/csv")))
	}
	columns := g.rarely(2)
	if !columns || g.rarely(30) {
		for range g.IntN(5) {
			fields = append(fields, g.bytesField(8, g.record()))
		}
	}
	if columns {
		fields = append(fields, g.columns()...)
	}
	return g.message(fields)
}

func (g wireGenerator) record() []byte {
	fields := [][]byte{g.bytesField(1, g.eventID()), g.fixed64Field(4, g.time())}
	if g.rarely(4) {
		fields = append(fields, g.bytesField(2, g.text(testTenant)))
	}
	if g.rarely(4) {
		fields = append(fields, g.bytesField(3, g.text("orders")))
	}
	if g.rarely(2) {
		fields = append(fields, g.varintField(5, g.Uint64()))
	}
	if !g.rarely(8) {
		fields = append(fields, g.bytesField(6, g.bytes(g.IntN(200))))
	}
	for range g.IntN(4) {
		entry := [][]byte{g.bytesField(1, g.text("host", "region", "z"))}
		if !g.rarely(10) {
			entry = append(entry, g.bytesField(2, g.text("web-17", "eu", "")))
		}
		fields = append(fields, g.bytesField(7, g.message(entry)))
	}
	return g.message(fields)
}

// columns returns RecordColumns fields of a request: one, or rarely the same content spread over two, which are merged.
func (g wireGenerator) columns() [][]byte {
	n := g.IntN(5)
	var ids, payloads []byte
	var times []uint64
	var versions, lengths []uint32
	for range n {
		ids = append(ids, g.bytes(16)...)
		times = append(times, g.time())
		versions = append(versions, g.Uint32())
		payload := g.bytes(g.IntN(50))
		payloads = append(payloads, payload...)
		lengths = append(lengths, uint32(len(payload)))
	}
	if g.rarely(60) {
		payloads = append(payloads, 'x')
	}
	if g.rarely(60) && n > 0 {
		lengths[0] = g.Uint32()
	}
	fields := [][]byte{g.bytesField(1, ids), g.bytesField(4, payloads)}
	fields = append(fields, g.array64(2, times)...)
	fields = append(fields, g.array32(5, lengths)...)
	if g.rarely(2) {
		fields = append(fields, g.array32(3, versions)...)
	}
	for _, key := range []string{"host", "region", "a"}[:g.IntN(4)] {
		fields = append(fields, g.bytesField(6, g.attributeColumn(key, n)))
	}
	if g.rarely(10) {
		cut := g.IntN(len(fields) + 1)
		return [][]byte{g.bytesField(9, g.message(fields[:cut])), g.bytesField(9, g.message(fields[cut:]))}
	}
	return [][]byte{g.bytesField(9, g.message(fields))}
}

func (g wireGenerator) attributeColumn(key string, n int) []byte {
	var values []byte
	var lengths []uint32
	for range n {
		value := g.text("web-17", "eu", "")
		values = append(values, value...)
		lengths = append(lengths, uint32(len(value)))
	}
	fields := [][]byte{g.bytesField(1, g.text(key)), g.bytesField(2, values)}
	return g.message(append(fields, g.array32(3, lengths)...))
}

// array64 encodes an array packed, or rarely unpacked.
func (g wireGenerator) array64(number protowire.Number, values []uint64) [][]byte {
	if g.rarely(15) {
		var fields [][]byte
		for _, v := range values {
			fields = append(fields, g.fixed64Field(number, v))
		}
		return fields
	}
	var packed []byte
	for _, v := range values {
		packed = protowire.AppendFixed64(packed, v)
	}
	return [][]byte{g.bytesField(number, packed)}
}

// array32 encodes an array packed, or rarely unpacked.
func (g wireGenerator) array32(number protowire.Number, values []uint32) [][]byte {
	if g.rarely(15) {
		var fields [][]byte
		for _, v := range values {
			fields = append(fields, g.fixed32Field(number, v))
		}
		return fields
	}
	var packed []byte
	for _, v := range values {
		packed = protowire.AppendFixed32(packed, v)
	}
	return [][]byte{g.bytesField(number, packed)}
}

// mutate damages b in one place: a byte changed, inserted or removed, the end cut off, or a part doubled.
func (g wireGenerator) mutate(b []byte) []byte {
	if len(b) == 0 {
		return g.bytes(1)
	}
	i := g.IntN(len(b))
	switch g.IntN(6) {
	case 0:
		b[i] = byte(g.Uint32())
	case 1:
		b[i] ^= 1 << g.IntN(8)
	case 2:
		return b[:i]
	case 3:
		return append(b[:i:i], append([]byte{byte(g.Uint32())}, b[i:]...)...)
	case 4:
		return append(b[:i:i], b[i+1:]...)
	default:
		return append(b[:i:i], append(append([]byte(nil), b[i/2:i]...), b[i:]...)...)
	}
	return b
}
