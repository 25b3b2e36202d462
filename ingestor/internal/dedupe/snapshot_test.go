package dedupe

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

func exampleTable() *Table {
	table := New(100)
	for i := uint64(0); i < WindowBatches+5; i++ {
		table.Apply(stamp(1, 7, 2*i+1, 10*i+1))
	}
	table.Apply(stamp(2, 1, 1, 5001))
	table.Apply(&Stamp{Producer: ProducerID{3}, Epoch: 1<<32 - 1, Sequence: 1<<64 - 1, FirstLSN: 6000, Records: 1})
	table.Advance(9000)
	return table
}

func TestSnapshotGolden(t *testing.T) {
	table := New(3)
	table.Apply(&Stamp{Tenant: "acme", Producer: ProducerID{0xaa, 0xbb}, Epoch: 2, Sequence: 5, FirstLSN: 1, Records: 3})
	table.Apply(&Stamp{Tenant: "acme", Producer: ProducerID{0xaa, 0xbb}, Epoch: 2, Sequence: 7, FirstLSN: 4, Records: 300})
	const want = "494e4444" + "01" + "2f01000000000000" + "01" +
		"04" + "61636d65" + "aabb0000000000000000000000000000" + "02" + "02" +
		"050103" + "0203ac02" + "903dabce"
	require.Equal(t, want, hex.EncodeToString(table.AppendSnapshot(nil)))
}

func TestSnapshotRoundTrip(t *testing.T) {
	table := exampleTable()
	encoded := table.AppendSnapshot([]byte("prefix"))[len("prefix"):]
	decoded, err := DecodeSnapshot(encoded, 100)
	require.NoError(t, err)
	require.Equal(t, uint64(9000), decoded.AppliedLSN())
	require.Equal(t, encoded, decoded.AppendSnapshot(nil))
	v, first, _ := decoded.Check(stamp(1, 7, 2*WindowBatches+1, 0))
	require.Equal(t, Duplicate, v)
	require.Equal(t, uint64(10*WindowBatches+1), first)
	require.Equal(t, OutOfOrder, verdict(decoded, stamp(1, 7, 1, 0)))

	smaller, err := DecodeSnapshot(encoded, 2)
	require.NoError(t, err)
	require.Equal(t, Fresh, verdict(smaller, stamp(1, 7, 1, 0)), "the oldest producer is left out")
	require.Equal(t, 2, smaller.Producers())
}

func TestSnapshotRefusesEveryDamage(t *testing.T) {
	encoded := exampleTable().AppendSnapshot(nil)
	for i := range encoded {
		_, err := DecodeSnapshot(encoded[:i], 100)
		require.ErrorIs(t, err, ErrCorruptSnapshot)
		for bit := range 8 {
			damaged := append([]byte(nil), encoded...)
			damaged[i] ^= 1 << bit
			_, err = DecodeSnapshot(damaged, 100)
			require.ErrorIs(t, err, ErrCorruptSnapshot)
		}
	}
	_, err := DecodeSnapshot(append(encoded, 0), 100)
	require.ErrorIs(t, err, ErrCorruptSnapshot)
}

// Every varint, where a length may stand, is made huge, and the checksum fits: the lengths themselves must be bounded.
func TestNoMemoryForACorruptLength(t *testing.T) {
	encoded := exampleTable().AppendSnapshot(nil)
	body := encoded[:len(encoded)-checksumBytes]
	for at := headerBytes; at < len(body); at++ {
		for _, huge := range []uint64{1 << 20, 1 << 31, 1 << 40, 1<<64 - 1} {
			damaged := binary.AppendUvarint(append([]byte(nil), body[:at]...), huge)
			damaged = append(damaged, body[at+1:]...)
			damaged = binary.LittleEndian.AppendUint32(damaged, crc32.Checksum(damaged, castagnoli))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := DecodeSnapshot(damaged, 100)
			runtime.ReadMemStats(&after)
			if err != nil {
				require.ErrorIs(t, err, ErrCorruptSnapshot)
			}
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "byte %d is %d", at, huge)
		}
	}
}

// The checksum would stop nearly all inputs at the door, so it is made to fit.
func FuzzDecodeSnapshot(f *testing.F) {
	example := exampleTable().AppendSnapshot(nil)
	f.Add(example[:len(example)-checksumBytes])
	f.Add(New(1).AppendSnapshot(nil)[:headerBytes+1])
	f.Fuzz(func(t *testing.T, body []byte) {
		data := binary.LittleEndian.AppendUint32(body, crc32.Checksum(body, castagnoli))
		table, err := DecodeSnapshot(data, 1000)
		if err != nil {
			require.ErrorIs(t, err, ErrCorruptSnapshot)
			return
		}
		again, err := DecodeSnapshot(table.AppendSnapshot(nil), 1000)
		require.NoError(t, err)
		require.Equal(t, table.AppendSnapshot(nil), again.AppendSnapshot(nil))
	})
}
