package mutants

const (
	walDir       = "ingestor/internal/wal"
	processorDir = "ingestor/internal/processor"
	powerCuts    = "crashtest ^TestPowerCuts$"
)

// walWrite are mistakes in how the log is written, kept in order and cut.
var walWrite = []Mutant{
	{
		Name: "wal-group-not-synced", Mistake: "a group is written and not synced", Invariant: "1: ack only what was synced",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"if err := w.datasync(w.file); err != nil {", "if err := error(nil); err != nil {"}},
	},
	{
		Name: "wal-done-before-sync", Mistake: "the outcome of a group is told before it is written (etcd#14370)", Invariant: "1: ack only what was synced",
		File: walDir + "/syncer.go",
		Edits: []Edit{{"\t\terr := w.writeGroup(job.group, job.stats)\n\t\ts.busy.Store(false)\n\t\ts.done <- err\n",
			"\t\ts.busy.Store(false)\n\t\ts.done <- nil\n\t\t_ = w.writeGroup(job.group, job.stats)\n"}},
	},
	{
		Name: "wal-sync-before-write", Mistake: "the sync is made before the write that it is to cover", Invariant: "1: ack only what was synced",
		File: walDir + "/writer.go",
		Edits: []Edit{
			{"\tif _, err := w.file.WriteAt(b, seg.endBytes); err != nil {", "\tsyncErr := w.datasync(w.file)\n\tif _, err := w.file.WriteAt(b, seg.endBytes); err != nil {"},
			{"if err := w.datasync(w.file); err != nil {", "if err := syncErr; err != nil {"},
		},
	},
	{
		Name: "wal-sync-retried", Mistake: "a sync that failed is tried again", Invariant: "2: a failed sync is final",
		File: walDir + "/writer.go",
		Edits: []Edit{{"\tif err := w.datasync(w.file); err != nil {",
			"\terr := w.datasync(w.file)\n\tif err != nil {\n\t\terr = w.datasync(w.file)\n\t}\n\tif err != nil {"}},
	},
	{
		Name: "wal-poison-forgotten", Mistake: "a log that was poisoned goes on", Invariant: "2: a failed write is final",
		File:  walDir + "/wal.go",
		Edits: []Edit{{"\tw.poisoned.CompareAndSwap(nil, &err)\n", ""}},
	},
	{
		Name: "wal-write-error-forgotten", Mistake: "a write that failed counts as done", Invariant: "2: a failed write is final",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"if _, err := w.file.WriteAt(b, seg.endBytes); err != nil {", "if _, err := w.file.WriteAt(b, seg.endBytes); false {"}},
	},
	{
		Name: "wal-header-not-synced", Mistake: "a segment gets its name before its header is durable (influxdb#26549)", Invariant: "6: how a segment is born",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"if err := w.datasync(file); err != nil {", "if err := error(nil); err != nil {"}},
	},
	{
		Name: "wal-rename-before-header-sync", Mistake: "a segment is renamed first and its header synced afterwards", Invariant: "6: how a segment is born",
		File: walDir + "/writer.go",
		Edits: []Edit{
			{"\t\tif err := w.datasync(file); err != nil {", "\t\terr = w.opt.FS.Rename(path, seg.path)\n\t\tif err := w.datasync(file); err != nil {"},
			{"\t\t}\n\t\terr = w.opt.FS.Rename(path, seg.path)\n", "\t\t}\n"},
		},
	},
	{
		Name: "wal-segment-name-not-synced", Mistake: "a new segment's name is not durable before groups in it are acked (etcd#6368, kafka#10680)", Invariant: "6: how a segment is born",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"\t\tw.metrics.fsyncs.Inc()\n\t\terr = w.opt.FS.SyncDir(w.opt.Dir)\n", "\t\tw.metrics.fsyncs.Inc()\n"}},
	},
	{
		Name: "wal-header-without-predecessor", Mistake: "a header does not name its predecessor's last checksum", Invariant: "6: how a segment is born",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"\t\th.prev = w.segments[n-1].tail()\n", "\t\th.prev = w.segments[n-1].tail()\n\t\th.prev.checksum = 0\n"}},
	},
	{
		Name: "wal-epoch-not-random", Mistake: "all lives of a file have the same epoch", Invariant: "5: a frame proves itself",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"\trand.Read(epoch[:])\n\th.epoch", "\tif false {\n\t\trand.Read(epoch[:])\n\t}\n\th.epoch"}},
	},
	{
		Name: "wal-appends-to-recovered-tail", Mistake: "groups are appended to the segment that was recovered", Invariant: "6: never append to a recovered tail",
		File: walDir + "/wal.go",
		Edits: []Edit{{"\tif w.file == nil || !w.fits(w.group.paddedBytes()) {",
			"\tif w.file == nil {\n\t\tw.file, _ = w.opt.FS.OpenFile(w.newest().path, 2|w.direct, 0)\n\t}\n\tif w.file == nil || !w.fits(w.group.paddedBytes()) {"}},
	},
	{
		Name: "wal-dropped-group-kept", Mistake: "a group that was refused for lack of space is written with the next one (loki#12583)", Invariant: "12: no space is not an accident",
		File:  walDir + "/wal.go",
		Edits: []Edit{{"\t\t\tw.discard()\n\t\t\treturn stats, err\n", "\t\t\treturn stats, err\n"}},
	},
	{
		Name: "wal-dropped-group-keeps-lsns", Mistake: "the LSNs of a group that was dropped are not given out again", Invariant: "5: LSNs have no gaps but declared ones",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"\tw.next.Store(w.next.Load() - w.group.records)\n", ""}},
	},
	{
		Name: "wal-no-space-poisons", Mistake: "a disk without room for a segment poisons the log", Invariant: "12: space freed, writes resume",
		File: walDir + "/writer.go",
		Edits: []Edit{{"\tif errors.Is(err, ErrNoSpace) {\n\t\treturn err\n\t}\n\tif err != nil {\n\t\treturn w.poison(err)\n\t}\n\tseg := w.nextSegment()",
			"\tif err != nil {\n\t\treturn w.poison(err)\n\t}\n\tseg := w.nextSegment()"}},
	},
	{
		Name: "wal-group-limit-off-by-one", Mistake: "a group may be 64 bytes larger than its reader allows", Invariant: "5: bounded length",
		File:  walDir + "/group.go",
		Edits: []Edit{{"func newGroup(maxBytes int) *group { return &group{buf: vfs.AlignedBuffer(maxBytes)} }", "func newGroup(maxBytes int) *group { return &group{buf: vfs.AlignedBuffer(maxBytes + 64)} }"}},
	},
	{
		Name: "wal-no-room-for-the-seal", Mistake: "groups may fill a segment to its last block", Invariant: "6: a recovered tail is sealed",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"alignBlock(s.endBytes)+int64(n)+vfs.BlockBytes <= s.header.sizeBytes", "alignBlock(s.endBytes)+int64(n) <= s.header.sizeBytes"}},
	},
	{
		Name: "wal-group-spills-over", Mistake: "a group may go one block beyond its segment", Invariant: "5: bounded length",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"alignBlock(s.endBytes)+int64(n)+vfs.BlockBytes <= s.header.sizeBytes", "alignBlock(s.endBytes)+int64(n) <= s.header.sizeBytes+vfs.BlockBytes"}},
	},
	{
		Name: "wal-padding-not-zeroed", Mistake: "the padding of a group holds what an earlier, longer group left in memory", Invariant: "5: a frame proves itself",
		File:  walDir + "/group.go",
		Edits: []Edit{{"\tclear(padded[g.size:])\n", ""}},
	},
	{
		Name: "wal-spare-not-synced", Mistake: "a spare is not synced before it is used: preallocation without fsync", Invariant: "6: how a segment is born",
		File:  walDir + "/spare.go",
		Edits: []Edit{{"\t\t\terr = f.Sync()\n", "\t\t\terr = nil\n"}},
		Survives: "equivalent but for speed: the fdatasync of the header makes the whole file durable, its size with it, before the segment has its name; " +
			"a spare that was cut short is not adopted",
	},
	{
		Name: "wal-spare-of-any-size", Mistake: "a spare that was cut short by a crash becomes a segment", Invariant: "6: how a segment is born",
		File:  walDir + "/spare.go",
		Edits: []Edit{{"if size == s.sizeBytes && s.wanted()", "if s.wanted()"}},
	},
	{
		Name: "wal-cut-one-segment-too-far", Mistake: "the log drops the segment that holds the lowest LSN still needed (influxdb#25277)", Invariant: "9: cut only below all checkpoints",
		File:  walDir + "/truncate.go",
		Edits: []Edit{{"oldest.last >= lsn ||", "oldest.header.first >= lsn ||"}},
	},
	{
		Name: "wal-cut-one-record-too-far", Mistake: "a segment whose last record is the lowest still needed is dropped", Invariant: "9: cut only below all checkpoints",
		File:  walDir + "/truncate.go",
		Edits: []Edit{{"oldest.last >= lsn ||", "oldest.last > lsn ||"}},
	},
	{
		Name: "wal-cut-under-a-reader", Mistake: "a segment is dropped, and recycled, while a replay reads it", Invariant: "9: what is replayed stays",
		File:  walDir + "/truncate.go",
		Edits: []Edit{{" || oldest.readers > 0", ""}},
	},
	{
		Name: "wal-drop-not-synced", Mistake: "the drop of a segment is not durable before its file is used again", Invariant: "9: a crash never leaves a gap",
		File:  walDir + "/truncate.go",
		Edits: []Edit{{"if err := fsys.SyncDir(w.opt.Dir); err != nil {", "if err := error(nil); err != nil {"}},
	},
	{
		Name: "wal-slack-cut-too-short", Mistake: "giving back the unused end of a segment takes its last block with it", Invariant: "1: what was acked stays",
		File:  walDir + "/writer.go",
		Edits: []Edit{{"\t\tend := alignBlock(s.endBytes)\n", "\t\tend := alignBlock(s.endBytes) - vfs.BlockBytes\n"}},
	},
	{
		Name: "wal-marker-proves-too-early", Mistake: "a frame claims that its own group was durable before it", Invariant: "5: a frame proves itself",
		File:  walDir + "/group.go",
		Edits: []Edit{{"\t\t\tdurable:      durable,\n", "\t\t\tdurable:      g.last,\n"}},
	},
}

// walRead are mistakes in how the log is recovered and replayed.
var walRead = []Mutant{
	{
		Name: "wal-segments-not-synced-on-open", Mistake: "recovered segments are not synced before they are replayed (kafka#8812)", Invariant: "3: before replay, sync",
		File:  walDir + "/open.go",
		Edits: []Edit{{"syncAll(opt.FS, opt.Dir, list.segments)", "syncAll(opt.FS, opt.Dir, nil)"}},
	},
	{
		Name: "wal-directory-not-synced-on-open", Mistake: "the directory is not synced before its segments are replayed", Invariant: "3: before replay, sync",
		File: walDir + "/recovery.go", Server: []string{powerCuts},
		Edits: []Edit{{"range []string{dir, filepath.Dir(dir)} {", "range []string{filepath.Dir(dir)} {"}},
	},
	{
		Name: "wal-directory-name-not-synced", Mistake: "the name of the log's directory is not made durable", Invariant: "6: a directory's name is a name",
		File: walDir + "/recovery.go", Server: []string{powerCuts},
		Edits: []Edit{{"range []string{dir, filepath.Dir(dir)} {", "range []string{dir} {"}},
	},
	{
		Name: "wal-frame-checksum-ignored", Mistake: "a frame's checksum is not checked", Invariant: "5: a frame proves itself",
		File:  walDir + "/reader.go",
		Edits: []Edit{{"\tif frameChecksum(b) != h.checksum {", "\tif false {"}},
	},
	{
		Name: "wal-chain-ignored", Mistake: "the chain to the frame before is not checked", Invariant: "5: a frame proves itself",
		File:  walDir + "/reader.go",
		Edits: []Edit{{"\tcase h.chain != c.chain:", "\tcase false:"}},
	},
	{
		Name: "wal-epoch-ignored", Mistake: "a frame of an earlier life of the file is taken for one of this life (pebble#567)", Invariant: "5: a frame proves itself",
		File:  walDir + "/reader.go",
		Edits: []Edit{{"\tcase h.segment != c.header.id || h.epoch != c.header.epoch:", "\tcase h.segment != c.header.id:"}},
	},
	{
		Name: "wal-epoch-and-chain-ignored", Mistake: "neither segment nor epoch nor chain of a frame are checked", Invariant: "5: a frame proves itself",
		File: walDir + "/reader.go",
		Edits: []Edit{
			{"\tcase h.segment != c.header.id || h.epoch != c.header.epoch:", "\tcase false && h.segment == 0:"},
			{"\tcase h.chain != c.chain:", "\tcase false:"},
		},
	},
	{
		Name: "wal-lsn-ignored", Mistake: "a frame's LSN need not follow the one before", Invariant: "5: a frame proves itself",
		File:  walDir + "/reader.go",
		Edits: []Edit{{"\tcase h.first != c.last+1:", "\tcase false:"}},
	},
	{
		Name: "wal-group-offset-ignored", Mistake: "a frame need not be where its group says", Invariant: "5: a frame proves itself",
		File:  walDir + "/reader.go",
		Edits: []Edit{{"\tcase h.groupOffset != uint64(c.group):", "\tcase false:"}},
	},
	{
		Name: "wal-frame-after-seal", Mistake: "frames behind a seal are read", Invariant: "5: a frame proves itself",
		File:  walDir + "/reader.go",
		Edits: []Edit{{"\tcase c.sealed:", "\tcase false:"}},
	},
	{
		Name: "wal-length-unbounded", Mistake: "a frame may be longer than its group and its segment", Invariant: "5: bounded length",
		File:  walDir + "/reader.go",
		Edits: []Edit{{"\tcase end > c.group+c.header.maxGroupBytes || end > c.header.sizeBytes:", "\tcase end < 0:"}},
	},
	{
		Name: "wal-length-check-off-by-one", Mistake: "a frame that fills its group to the last byte is refused", Invariant: "5: bounded length",
		File:  walDir + "/reader.go",
		Edits: []Edit{{"\tcase end > c.group+c.header.maxGroupBytes ||", "\tcase end >= c.group+c.header.maxGroupBytes ||"}},
	},
	{
		Name: "wal-corrupt-length-allocates", Mistake: "a damaged length makes recovery allocate as much", Invariant: "5: bounded length",
		File:     walDir + "/frame.go",
		Edits:    []Edit{{" || h.payloadBytes > maxGroupBytesLimit {", " {"}},
		Survives: "equivalent: cursor and search hold a length to its group and segment before memory is taken for it; the format's limit only says it earlier",
	},
	{
		Name: "wal-header-checksum-ignored", Mistake: "a segment header's checksum is not checked", Invariant: "5: a header proves itself",
		File:  walDir + "/segment.go",
		Edits: []Edit{{"\tcase checksum != crc32.Checksum(b[:segmentHeaderBytes-4], castagnoli):", "\tcase false:"}},
	},
	{
		Name: "wal-torn-tail-in-older-segment", Mistake: "a bad frame in a segment that has a successor is cut off like a torn tail (rocksdb#12489)", Invariant: "4: torn is not corrupt",
		File: walDir + "/recovery.go",
		Edits: []Edit{{"\t\t\treturn seg.corrupt(at, fmt.Sprintf(\"%s, but the next segment says that this one ends at LSN %d\", bad.reason, end.last))\n",
			"\t\t\t_ = bad\n\t\t\treturn nil\n"}},
	},
	{
		Name: "wal-all-damage-is-torn", Mistake: "a bad frame in the newest segment is always taken for torn (nats-server#7549)", Invariant: "4: torn is not corrupt",
		File:  walDir + "/recovery.go",
		Edits: []Edit{{"\t\tif at.header.groupOffset == uint64(c.group) &&", "\t\tif true || at.header.groupOffset == uint64(c.group) &&"}},
	},
	{
		Name: "wal-torn-window-unbounded", Mistake: "what lies beyond the largest group may be torn as well", Invariant: "4: torn is not corrupt",
		File:  walDir + "/recovery.go",
		Edits: []Edit{{" && at.offset < c.group+seg.header.maxGroupBytes && !c.sealed {", " && !c.sealed {"}},
	},
	{
		Name: "wal-damage-behind-frames-unseen", Mistake: "the search for frames behind a bad one ends at the first piece of the file", Invariant: "4: torn is not corrupt",
		File:  walDir + "/recovery.go",
		Edits: []Edit{{"c.window.search(seg.header.id, &seg.header.epoch, c.offset, seg.sizeBytes,", "c.window.search(seg.header.id, &seg.header.epoch, c.offset, c.offset+4096,"}},
	},
	{
		Name: "wal-gap-between-segments", Mistake: "a segment missing in the middle is skipped", Invariant: "4: nothing is skipped silently",
		File: walDir + "/recovery.go",
		Edits: []Edit{
			{"\tcase seg.header.id != prev.header.id+1:", "\tcase false:"},
			{"\tcase seg.header.prev.segment != prev.header.id:", "\tcase false:"},
			{"\tfor c.last != end.last || c.chain != end.checksum {", "\tfor c.last < end.last {"},
			{"\t\t\treturn seg.corrupt(at, fmt.Sprintf(\"%s, but the next segment says that this one ends at LSN %d\", bad.reason, end.last))\n",
				"\t\t\t_ = bad\n\t\t\treturn nil\n"},
		},
	},
	{
		Name: "wal-missing-oldest-accepted", Mistake: "segments that a sink still needs may be missing at the log's beginning", Invariant: "4: nothing is skipped silently",
		File:  walDir + "/recovery.go",
		Edits: []Edit{{"if prev := oldest.header.prev; firstLSN > 0 &&", "if prev := oldest.header.prev; false && firstLSN > 0 &&"}},
	},
	{
		Name: "wal-cut-file-accepted", Mistake: "a newest segment that was cut short is read as far as it goes (influxdb#26549)", Invariant: "4: torn is not corrupt",
		File:  walDir + "/recovery.go",
		Edits: []Edit{{"\tif seg.sizeBytes != seg.header.sizeBytes {", "\tif false {"}},
	},
	{
		Name: "wal-lsn-given-out-twice", Mistake: "after the end of the log was lost, LSNs that a sink has are given out again", Invariant: "8: an LSN range is flushed once",
		File:  walDir + "/open.go",
		Edits: []Edit{{"\tw.next.Store(max(newest.last+1, w.opt.FirstLSN))\n", "\tw.next.Store(newest.last + 1)\n"}},
	},
	{
		Name: "wal-predecessor-checksum-ignored", Mistake: "a segment ends at the LSN that its successor names, whatever the checksum there", Invariant: "6: a header names its predecessor's checksum",
		File:  walDir + "/recovery.go",
		Edits: []Edit{{"\tfor c.last != end.last || c.chain != end.checksum {", "\tfor c.last != end.last {"}},
	},
	{
		Name: "wal-replay-one-batch-late", Mistake: "replay leaves out the batch that ends at its first LSN (etcd#13766)", Invariant: "8: exactly once",
		File:  walDir + "/replay.go",
		Edits: []Edit{{"h.kind != kindRecords || h.last() < r.from {", "h.kind != kindRecords || h.last() <= r.from {"}},
	},
	{
		Name: "wal-replay-one-batch-early", Mistake: "replay begins with the batch before its first LSN (iceberg#17340)", Invariant: "8: exactly once",
		File:  walDir + "/replay.go",
		Edits: []Edit{{"h.kind != kindRecords || h.last() < r.from {", "h.kind != kindRecords || h.last()+1 < r.from {"}},
	},
	{
		Name: "wal-replay-skips-damage", Mistake: "a replay that finds a bad frame ends without an error", Invariant: "4: nothing is skipped silently",
		File:  walDir + "/replay.go",
		Edits: []Edit{{"\t\t\treturn s.corrupt(before.offset, bad.reason)\n", "\t\t\t_ = bad\n\t\t\treturn nil\n"}},
	},
	{
		Name: "wal-replay-goes-on-anywhere", Mistake: "a replay goes on where any earlier one of the segment ended", Invariant: "8: exactly once",
		File:  walDir + "/replay.go",
		Edits: []Edit{{"s.segment == segment && s.last+1 == from {", "s.segment == segment && s.last+1 != 0 {"}},
	},
	{
		Name: "wal-replay-ahead-of-sync", Mistake: "a group can be replayed before it is synced", Invariant: "3: only what is durable reaches a sink",
		File: walDir + "/writer.go",
		Edits: []Edit{
			{"\twrote := time.Now()\n", "\twrote := time.Now()\n\tw.mu.Lock()\n\tseg.endBytes += int64(len(b))\n\tseg.last, seg.checksum = g.last, checksum\n\tseg.frames += int64(g.frames)\n\tw.mu.Unlock()\n\tw.durable.Store(g.last)\n"},
			{"\tw.mu.Lock()\n\tseg.endBytes += int64(len(b))\n\tseg.last, seg.checksum = g.last, checksum\n\tseg.frames += int64(g.frames)\n\tw.mu.Unlock()\n\tw.durable.Store(g.last)\n\tw.metrics.wrote(&stats)\n", "\tw.metrics.wrote(&stats)\n"},
		},
	},
	{
		Name: "wal-repair-swap-not-synced", Mistake: "a repair removes its marker before the new names are durable", Invariant: "7: recovery may crash anywhere",
		File:  walDir + "/repair.go",
		Edits: []Edit{{"\tif err := fsys.SyncDir(dir); err != nil {", "\tif err := error(nil); err != nil {"}},
	},
	{
		Name: "wal-unfinished-repair-ignored", Mistake: "a log whose repair was not finished is opened", Invariant: "7: recovery may crash anywhere",
		File:  walDir + "/open.go",
		Edits: []Edit{{"\tif list.repair {", "\tif false {"}},
	},
}
