package blockdev

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// device is a disk with a file system that is mounted.
type device struct {
	t    *testing.T
	host *Host
	fs   FileSystem
	disk *Disk
	*Mounted
}

func (h *Host) testDevice(t *testing.T, fs FileSystem, im image, rules Rules) *device {
	t.Helper()
	d := &device{t: t, host: h, fs: fs, disk: newDisk(im, rules)}
	var err error
	d.Mounted, err = h.attach(d.disk, fs)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.detach()) })
	require.NoError(t, d.mount())
	return d
}

func (d *device) write(name string, content []byte, sync bool) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.Dir, name), os.O_CREATE|os.O_WRONLY, 0o644)
	require.NoError(d.t, err)
	_, err = f.WriteAt(content, 0)
	require.NoError(d.t, err)
	if sync {
		require.NoError(d.t, f.Sync())
	}
	require.NoError(d.t, f.Close())
}

// after mounts the state that a cut with this choice leaves, checks it with fsck, and returns a file's content there.
func (d *device) after(c *Capture, choice Choice, name string) ([]byte, bool) {
	d.t.Helper()
	im, _ := c.State(choice)
	state := d.host.testDevice(d.t, d.fs, im, Rules{})
	require.NoError(d.t, state.unmount(), choice)
	require.NoError(d.t, state.fsck(), choice)
	require.NoError(d.t, state.mount(), choice)
	content, err := os.ReadFile(filepath.Join(state.Dir, name))
	require.NoError(d.t, state.detach())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	require.NoError(d.t, err)
	return content, true
}

func eachFileSystem(t *testing.T, test func(t *testing.T, h *Host, fs FileSystem, im image)) {
	for _, fs := range []FileSystem{Ext4, XFS} {
		t.Run(string(fs), func(t *testing.T) {
			h := newHost(t)
			im, err := fs.make(filepath.Join(t.TempDir(), "image"))
			require.NoError(t, err)
			test(t, h, fs, im)
		})
	}
}

func TestWhatWasSyncedIsInEveryState(t *testing.T) {
	eachFileSystem(t, func(t *testing.T, h *Host, fs FileSystem, im image) {
		d := h.testDevice(t, fs, im, Rules{})
		content := bytes.Repeat([]byte("durable."), 5000)
		d.write("synced", content, true)
		d.write("not synced", content, false)
		c := d.disk.Capture()
		for kind := range choiceKinds {
			got, ok := d.after(&c, Choice{Kind: kind, Seed: 1, TearBytes: BlockBytes}, "synced")
			require.True(t, ok, kind)
			require.True(t, bytes.Equal(content, got), kind)
		}
		_, ok := d.after(&c, Choice{Kind: Everything, TearBytes: BlockBytes}, "not synced")
		require.False(t, ok, "it is in the page cache, which no cut leaves")
	})
}

// TestADeviceThatIgnoresFlushesLosesWhatWasSynced shows that the flush is what makes the difference above.
func TestADeviceThatIgnoresFlushesLosesWhatWasSynced(t *testing.T) {
	eachFileSystem(t, func(t *testing.T, h *Host, fs FileSystem, im image) {
		d := h.testDevice(t, fs, im, Rules{IgnoreFlush: true})
		d.write("synced", []byte("content"), true)
		c := d.disk.Capture()
		require.Positive(t, c.Pending())
		_, ok := d.after(&c, Choice{Kind: Nothing, TearBytes: BlockBytes}, "synced")
		require.False(t, ok)
		got, ok := d.after(&c, Choice{Kind: Everything, TearBytes: BlockBytes}, "synced")
		require.True(t, ok)
		require.Equal(t, "content", string(got))
	})
}

func TestAFlushCoversWhatCameBeforeIt(t *testing.T) {
	const flushTime = 20 * time.Millisecond
	d := newDisk(newImage(1<<20), Rules{FlushTime: flushTime})
	block := func(b byte) []byte { return bytes.Repeat([]byte{b}, BlockBytes) }
	require.NoError(t, d.Write(0, block('a')))
	arrived := make(chan struct{})
	d.On(When{Op: Flush, N: 1}, func() {
		c := d.Capture()
		require.Equal(t, 1, c.Pending(), "nothing is durable when the flush has only come")
		close(arrived)
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.Flush()
	}()
	<-arrived
	<-done
	require.NoError(t, d.Write(BlockBytes, block('b')))
	c := d.Capture()
	require.Equal(t, 1, c.Pending())
	got := make([]byte, 2*BlockBytes)
	im, tally := c.State(Choice{Kind: Nothing, TearBytes: SectorBytes})
	require.Equal(t, Tally{Lost: 1}, tally)
	im.read(0, got)
	require.Equal(t, append(block('a'), block(0)...), got)
	im, _ = c.State(Choice{Kind: Everything, TearBytes: SectorBytes})
	im.read(0, got)
	require.Equal(t, append(block('a'), block('b')...), got)
}

// TestStates compares every kind of state with the writes it may hold, sector by sector.
func TestStates(t *testing.T) {
	d := newDisk(newImage(1<<20), Rules{})
	old := bytes.Repeat([]byte{'o'}, 64<<10)
	require.NoError(t, d.Write(0, old))
	d.Flush()
	first, second := bytes.Repeat([]byte{'1'}, 16<<10), bytes.Repeat([]byte{'2'}, 10<<10)
	require.NoError(t, d.Write(8<<10, first))
	require.NoError(t, d.Write(17<<10, second)) // begins inside a block, and inside the first
	require.NoError(t, d.Zero(40<<10, 4<<10))
	c := d.Capture()
	require.NoError(t, d.Write(0, bytes.Repeat([]byte{'x'}, 64<<10)), "after the capture")
	d.Flush()

	seen := map[ChoiceKind]map[string]bool{}
	for kind := range choiceKinds {
		seen[kind] = map[string]bool{}
		for seed := range uint64(300) {
			for _, tear := range []int64{SectorBytes, BlockBytes} {
				im, tally := c.State(Choice{Kind: kind, Seed: seed, TearBytes: tear})
				require.Equal(t, 3, tally.Lost+tally.Whole+tally.Torn)
				got := make([]byte, 64<<10)
				im.read(0, got)
				text := ""
				for at := 0; at < len(got); at += SectorBytes {
					sector := got[at : at+SectorBytes]
					require.Equal(t, bytes.Repeat(sector[:1], SectorBytes), sector, "a sector is never torn")
					allowed := "o"
					if at >= 8<<10 && at < 24<<10 {
						allowed += "1"
					}
					if at >= 17<<10 && at < 27<<10 {
						allowed += "2"
					}
					if at >= 40<<10 && at < 44<<10 {
						allowed += "\x00"
					}
					require.Contains(t, allowed, string(sector[:1]), "byte %d", at)
					text += string(sector[:1])
				}
				seen[kind][text] = true
			}
		}
	}
	require.Len(t, seen[Nothing], 1)
	require.Len(t, seen[Everything], 1)
	require.Len(t, seen[OnlyOne], 3)
	require.Greater(t, len(seen[AllButOne]), 20)
	require.Greater(t, len(seen[InOrder]), 20)
	require.Greater(t, len(seen[Subset]), 200)
}

func TestRequestsOutsideTheDeviceAreRefused(t *testing.T) {
	d := newDisk(newImage(1<<20), Rules{})
	require.Error(t, d.Write(1<<20, make([]byte, SectorBytes)))
	require.Error(t, d.Write(100, make([]byte, SectorBytes)))
	require.Error(t, d.Read(1<<20-SectorBytes, make([]byte, 2*SectorBytes)))
}
