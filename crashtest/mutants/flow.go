package mutants

const (
	servicesDir = "ingestor/internal/services/ingestion"
	dedupeDir   = "ingestor/internal/dedupe"
	memtableDir = "ingestor/internal/storage/memtable"
	apiDir      = "ingestor/internal/api/ingestion"
)

// services are mistakes between the request and the log, and in what it answers.
var services = []Mutant{
	{
		Name: "committer-ack-before-sync", Mistake: "a batch that comes alone is answered before it is synced", Invariant: "1: ack only what was synced",
		File: servicesDir + "/committer.go", Server: []string{powerCuts},
		Edits: []Edit{{"\tif err := c.log.Sync(); err != nil {\n\t\treturn err\n\t}\n\tc.completed, c.filling = c.filling, c.completed\n\tc.insert(&c.completed)\n\treturn nil\n",
			"\tc.completed, c.filling = c.filling, c.completed\n\tc.insert(&c.completed)\n\treturn c.log.Sync()\n"}},
	},
	{
		Name: "committer-next-group-acked-too", Mistake: "the outcome of a group answers the one that fills as well", Invariant: "1: waiters are snapshotted before the sync",
		File: servicesDir + "/committer.go",
		Edits: []Edit{{"\tc.completed, c.underWay = c.underWay, c.completed\n\terr = c.start()\n",
			"\tc.completed, c.underWay = c.underWay, c.completed\n\tc.completed.members = append(c.completed.members, c.filling.members...)\n\tc.filling.reset()\n\terr = c.start()\n"}},
	},
	{
		Name: "committer-duplicate-acked-early", Mistake: "a batch that is sent again is acked before the first one is durable", Invariant: "10: retries are safe",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"\t\tcase s.LastLSN <= c.visible:", "\t\tcase true:"}},
	},
	{
		Name: "committer-refused-batch-remembered", Mistake: "a batch that was refused for lack of space counts as stored when it is sent again", Invariant: "10: retries are safe",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"\tc.table.DiscardStaged()\n", "\tc.table.CommitStaged(len(c.filling.members))\n"}},
	},
	{
		Name: "committer-no-space-is-acked", Mistake: "a group that there was no space for is answered as stored (loki#12583)", Invariant: "12: refused before ack",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"\t\tc.refuse(s, c.refusedForSpace())\n\t}\n\tc.filling.reset()\n", "\t\ts.releaseBuffer()\n\t\tc.service.answer(s, time.Now())\n\t}\n\tc.filling.reset()\n"}},
	},
	{
		Name: "committer-poison-answers-some", Mistake: "after a failure the group that was under way is not answered", Invariant: "2: every waiter is answered",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"range []*group{&c.completed, &c.underWay, &c.filling} {", "range []*group{&c.completed, &c.filling} {"}},
	},
	{
		Name: "committer-poison-answers-no-committed", Mistake: "after a failure those that wait for the sinks are not answered", Invariant: "2: every waiter is answered",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"\tfor _, waiting := range s.waiters.takeAll() {", "\tfor _, waiting := range s.waiters.takeUpTo(0) {"}},
	},
	{
		Name: "committer-unknown-is-acked", Mistake: "a batch whose group failed is answered as stored", Invariant: "2: answered unknown",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"\t\tc.refuse(s, outcomeUnknown())\n", "\t\ts.releaseBuffer()\n\t\tc.service.answer(s, time.Now())\n"}},
	},
	{
		Name: "committer-goes-on-after-failure", Mistake: "batches are taken after the log has failed", Invariant: "2: the process refuses writes",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"\ts.poisoned.Store(true)\n", ""}},
	},
	{
		Name: "committer-failure-not-reported", Mistake: "a failed log does not end the server", Invariant: "2: the process exits",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"\tif s.deps.OnFatal != nil {\n", "\tif false {\n"}},
	},
	{
		Name: "committer-committed-at-wal-synced", Mistake: "COMMITTED is answered when the log has the batch", Invariant: "ack levels: the sinks have committed",
		File:  servicesDir + "/committer.go",
		Edits: []Edit{{"\tif s.Level != Committed || !c.service.waiters.add(s) {", "\tif true {"}},
	},
	{
		Name: "service-wal-synced-at-buffered", Mistake: "WAL_SYNCED is answered when the batch is in the queue (arc#224)", Invariant: "1: ack only what was synced",
		File:  servicesDir + "/service.go",
		Edits: []Edit{{"\tif submission.Level != Buffered {\n", "\tif submission.Level == Committed {\n"}},
	},
	{
		Name: "service-full-queue-drops", Mistake: "a full queue drops a batch and reports success (arc#224)", Invariant: "11: never a silent drop",
		File:  servicesDir + "/service.go",
		Edits: []Edit{{"\tif err := s.enqueue(queued); err != nil {\n\t\ts.recycle(queued)\n\t\treturn err\n\t}\n", "\tif err := s.enqueue(queued); err != nil {\n\t\ts.recycle(queued)\n\t}\n"}},
	},
	{
		Name: "waiters-first-record", Mistake: "COMMITTED is answered when the first record of a batch is committed", Invariant: "5: a batch is atomic",
		File:  servicesDir + "/waiters.go",
		Edits: []Edit{{"return w.list[i].LastLSN > lsn })", "return w.list[i].FirstLSN > lsn })"}},
	},
	{
		Name: "dedupe-staged-unseen", Mistake: "a batch sent again while the first one is under way is stored twice", Invariant: "10: retries are safe",
		File: dedupeDir + "/table.go", Also: []string{servicesDir},
		Edits: []Edit{{"\tif p.staged > 0 {\n\t\tepoch, last = p.stagedEpoch, p.stagedLast\n\t}\n", ""}},
	},
	{
		Name: "dedupe-no-fencing", Mistake: "a lower epoch of a producer may write after a higher one", Invariant: "10: retries are safe",
		File: dedupeDir + "/table.go", Also: []string{servicesDir},
		Edits: []Edit{{"\tcase s.Epoch < epoch:", "\tcase false:"}},
	},
	{
		Name: "dedupe-window-not-restored", Mistake: "a snapshot restores only the last batch of each producer", Invariant: "10: stored in the checkpoint",
		File:  dedupeDir + "/snapshot.go",
		Edits: []Edit{{"\tp.last = e.sequence\n\treturn p\n", "\tp.last = e.sequence\n\tp.entries = p.entries[len(p.entries)-1:]\n\treturn p\n"}},
	},
	{
		Name: "dedupe-snapshot-checksum-ignored", Mistake: "the checksum of a dedupe snapshot is not checked", Invariant: "4: nothing is skipped silently",
		File:  dedupeDir + "/snapshot.go",
		Edits: []Edit{{"binary.LittleEndian.Uint32(data[len(body):]); got != want {", "binary.LittleEndian.Uint32(data[len(body):]); false && got != want {"}},
	},
	{
		Name: "memtable-table-lost-on-rotation", Mistake: "sealing keeps one table of each tenant", Invariant: "13: conservation",
		File:  memtableDir + "/set.go",
		Edits: []Edit{{"\t\t\tg.Tables = append(g.Tables, table)\n\t\t}\n", "\t\t\tg.Tables = append(g.Tables, table)\n\t\t\tbreak\n\t\t}\n"}},
	},
	{
		Name: "memtable-batch-lost-on-insert", Mistake: "a batch that opens a new table is not put into it", Invariant: "13: conservation",
		File:  memtableDir + "/set.go",
		Edits: []Edit{{"\ttable.Batches = append(table.Batches, b)\n", "\tif table.Records > 0 || s.Empty() {\n\t\ttable.Batches = append(table.Batches, b)\n\t}\n"}},
	},
	{
		Name: "memtable-view-repeats", Mistake: "the rest of a generation includes what a sink has already", Invariant: "8: an LSN range is flushed once",
		File: memtableDir + "/generation.go",
		Edits: []Edit{
			{"\t\t\tif b.Last <= lsn {\n", "\t\t\tif false {\n"},
			{"\t\t\tif b.First <= lsn {\n", "\t\t\tif b.First <= lsn && b.Last > lsn {\n"},
		},
	},
	{
		Name: "api-tenant-from-request", Mistake: "the tenant is the request's, not the credential's", Invariant: "the tenant comes from the credential",
		File: "ingestor/internal/batch/validate.go", Also: []string{apiDir},
		Edits: []Edit{{"\tif r.tenant.len() != 0 && string(r.tenant.of(v.raw)) != v.tenant {", "\tif false {"}},
	},
	{
		Name: "api-refusal-is-acked", Mistake: "a batch that was not stored is answered with an ack", Invariant: "a refused request is never acked",
		File:  apiDir + "/pending.go",
		Edits: []Edit{{"\t\trecords: s.AckedRecords, duplicate: s.Duplicate,\n\t}\n\treturn s.Err\n", "\t\trecords: s.AckedRecords, duplicate: s.Duplicate,\n\t}\n\treturn nil\n"}},
	},
}

var processorMutants = []Mutant{
	{
		Name: "processor-log-cut-before-checkpoint", Mistake: "the log is cut before the checkpoint is durable (influxdb#25569)", Invariant: "9: cut below durable checkpoints",
		File:  processorDir + "/checkpoint.go",
		Edits: []Edit{{"\tif low > p.checkpointed {\n", "\t_ = p.deps.Log.TruncateBelow(low + 1)\n\tif low > p.checkpointed {\n"}},
	},
	{
		Name: "processor-log-cut-at-fastest-sink", Mistake: "the log is cut, and COMMITTED answered, at the fastest sink's checkpoint", Invariant: "9: the minimum of all sinks",
		File:  processorDir + "/processor.go",
		Edits: []Edit{{"\t\tlow, high = min(low, flushed), max(high, flushed)\n", "\t\tlow, high = max(low, flushed), max(high, flushed)\n"}},
	},
	{
		Name: "processor-log-cut-one-record-too-far", Mistake: "the log is cut one record above the low watermark", Invariant: "9: cut only below all checkpoints",
		File:  processorDir + "/checkpoint.go",
		Edits: []Edit{{"\tif err := p.deps.Log.TruncateBelow(p.checkpointed + 1); err != nil {", "\tif err := p.deps.Log.TruncateBelow(p.checkpointed + 2); err != nil {"}},
	},
	{
		Name: "processor-dedupe-not-checkpointed", Mistake: "the dedupe table is not part of the checkpoint", Invariant: "10: stored in the checkpoint",
		File: processorDir + "/checkpoint.go",
		Edits: []Edit{
			{"\tsnapshot, err := p.deps.Manifest.WriteSnapshot(applied, p.snapshot)\n", "\t_, err := p.deps.Manifest.WriteSnapshot(applied, p.snapshot)\n"},
			{" Dedupe: &snapshot,", ""},
		},
	},
	{
		Name: "processor-dedupe-behind-low-watermark", Mistake: "the dedupe snapshot may be older than what the log still holds", Invariant: "10: stored in the checkpoint",
		File: processorDir + "/checkpoint.go",
		Edits: []Edit{
			{"\tp.absorb() // what is flushed was sealed: the copy is now at or above low\n", ""},
			{"\tif applied < low {", "\tif false {"},
		},
	},
	{
		Name: "processor-dedupe-ahead-of-log", Mistake: "a dedupe snapshot that is newer than the log is accepted", Invariant: "a checkpoint is never ahead of the durable log",
		File:  processorDir + "/rebuild.go",
		Edits: []Edit{{"\tcase r.snapshot > end:", "\tcase false:"}},
	},
	{
		Name: "processor-dedupe-claims-too-much", Mistake: "the dedupe snapshot claims one record more than it knows", Invariant: "10: retries are safe",
		File:  processorDir + "/processor.go",
		Edits: []Edit{{"\t\tp.table.Advance(g.Last)\n", "\t\tp.table.Advance(g.Last + 1)\n"}},
	},
	{
		Name: "processor-dedupe-misses-replay", Mistake: "the batches above the snapshot are not remembered at start", Invariant: "10: retries are safe",
		File:  processorDir + "/rebuild.go",
		Edits: []Edit{{"\t\tr.table.Apply(stamp)\n", "\t\t_ = stamp\n"}},
	},
	{
		Name: "processor-dedupe-gap-accepted", Mistake: "records between the dedupe snapshot and the log's beginning may be missing", Invariant: "4: nothing is skipped silently",
		File:  processorDir + "/rebuild.go",
		Edits: []Edit{{"\tcase r.snapshot+1 < first:", "\tcase false:"}},
	},
	{
		Name: "processor-rebuild-ends-early", Mistake: "what the log's check did not show of it is not read for the dedupe table", Invariant: "10: retries are safe",
		File:  processorDir + "/rebuild.go",
		Edits: []Edit{{"max(r.snapshot, r.seen) + 1; from <= end {", "max(r.snapshot, r.seen) + 1; from < 1 {"}},
	},
	{
		Name: "processor-unknown-outcome-repeated", Mistake: "after a flush whose outcome is unknown the sink is not asked", Invariant: "8: exactly once",
		File:  processorDir + "/worker.go",
		Edits: []Edit{{"\t\tw.known = false // it may have happened all the same\n", ""}},
	},
	{
		Name: "processor-generation-skipped-after-error", Mistake: "a generation that a sink refused is taken for flushed", Invariant: "8: exactly once",
		File:  processorDir + "/worker.go",
		Edits: []Edit{{"\t\tw.known = false // it may have happened all the same\n", "\t\tw.advance(last)\n"}},
	},
	{
		Name: "processor-start-forgets-sink", Mistake: "at start a sink is taken to be where the manifest last saw it", Invariant: "8: the sink's checkpoint decides",
		File:  processorDir + "/recovery.go",
		Edits: []Edit{{"\tw.flushed = stored\n\treturn nil\n", "\tw.flushed = mirrored\n\treturn nil\n"}},
	},
	{
		Name: "processor-replay-one-record-late", Mistake: "what is read back begins one record above the checkpoint's successor", Invariant: "8: exactly once",
		File:  processorDir + "/worker.go",
		Edits: []Edit{{"w.replayer.read(ctx, flushed+1, last)", "w.replayer.read(ctx, flushed+2, last)"}},
	},
	{
		Name: "processor-backlog-one-record-late", Mistake: "the backlog of a start leaves out the first record", Invariant: "13: conservation",
		File:  processorDir + "/recovery.go",
		Edits: []Edit{{"\tp.backlog.reset(low+1, end)\n", "\tp.backlog.reset(low+2, end)\n"}},
	},
	{
		Name: "processor-backlog-loses-the-end", Mistake: "the backlog of a start leaves out the last record", Invariant: "13: conservation",
		File:  processorDir + "/backlog.go",
		Edits: []Edit{{"[]*entry{{first: first, last: end, absorbed: true}}", "[]*entry{{first: first, last: end - 1, absorbed: true}}"}},
	},
	{
		Name: "processor-checkpoint-ahead-accepted", Mistake: "a sink that is ahead of the log is accepted", Invariant: "a checkpoint is never ahead of the durable log",
		File:  processorDir + "/worker.go",
		Edits: []Edit{{"\tcase stored > end:", "\tcase false:"}},
	},
	{
		Name: "processor-checkpoint-back-accepted", Mistake: "a sink that has lost data is flushed on from where it is", Invariant: "4: nothing is skipped silently",
		File:  processorDir + "/worker.go",
		Edits: []Edit{{"\tcase stored < atLeast:", "\tcase false:"}},
	},
	{
		Name: "processor-cut-log-accepted", Mistake: "a sink that lacks what the log has dropped goes on with a gap", Invariant: "4: nothing is skipped silently",
		File:  processorDir + "/recovery.go",
		Edits: []Edit{{"stored < end && stored+1 < first {", "false && stored+1 < first {"}},
	},
	{
		Name: "processor-replay-drops-what-does-not-fit", Mistake: "a batch that the replay's memory has no room for is left out", Invariant: "11: replay is bounded, not lossy",
		File:  processorDir + "/replay.go",
		Edits: []Edit{{"\t\tif !ok && !set.Empty() {\n\t\t\treturn errEnough\n\t\t}\n", "\t\tif !ok && !set.Empty() {\n\t\t\tnext = w.Last() + 1\n\t\t\treturn nil\n\t\t}\n"}},
	},
	{
		Name: "processor-forgets-before-slowest", Mistake: "a generation leaves the backlog when the fastest sink has it", Invariant: "9: the minimum of all sinks",
		File:  processorDir + "/backlog.go",
		Edits: []Edit{{"\tfor n < len(b.entries) && b.entries[n].last <= b.low &&", "\tfor n < len(b.entries) && b.entries[n].last <= b.passed &&"}},
	},
}

// system are mistakes that only tests of the built server can notice.
var system = []Mutant{
	{
		Name: "vfs-fdatasync-does-nothing", Mistake: "fdatasync is not called at all", Invariant: "1: ack only what was synced",
		File: "ingestor/internal/vfs/os_linux.go", Server: []string{powerCuts},
		Edits: []Edit{{"\treturn f.retryInterrupted(\"fdatasync\", func() error { return unix.Fdatasync(f.fd) })\n", "\treturn nil\n"}},
	},
	{
		Name: "vfs-fsync-does-nothing", Mistake: "fsync is not called at all", Invariant: "8: temp -> fsync -> rename",
		File: "ingestor/internal/vfs/os_linux.go", Server: []string{powerCuts},
		Edits: []Edit{{"func (f *osFile) Datasync() error {\n", "func (f *osFile) Sync() error { return nil }\n\nfunc (f *osFile) Datasync() error {\n"}},
	},
	{
		Name: "vfs-directories-not-synced", Mistake: "no directory is ever synced", Invariant: "6, 8: fsync of the directory",
		File: "ingestor/internal/vfs/os_linux.go", Server: []string{powerCuts},
		Edits: []Edit{{"\treturn errors.Join(d.Sync(), d.Close())\n", "\treturn d.Close()\n"}},
	},
	{
		Name: "vfs-failed-sync-retried", Mistake: "an fdatasync that failed is called again", Invariant: "2: fsync is never retried",
		File: "ingestor/internal/vfs/os_linux.go", Server: []string{"crashtest ^TestAFailedFdatasyncEndsTheServer$"},
		Edits: []Edit{{"\t\tif !errors.Is(err, unix.EINTR) {\n", "\t\tif !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EIO) {\n"}},
	},
	{
		Name: "datadir-name-not-synced", Mistake: "the data directory's own name is not made durable", Invariant: "8: fsync of the directory",
		File: "ingestor/internal/datadir/datadir.go", Server: []string{powerCuts},
		Edits: []Edit{{"\t\tif err := vfs.OS.SyncDir(parent); err != nil {", "\t\tif err := error(nil); err != nil {"}},
	},
	{
		Name: "server-goes-on-after-failure", Mistake: "the server does not end when the log has failed", Invariant: "2: the process exits non-zero",
		File: "ingestor/server.go", Server: []string{"crashtest ^TestAFailedFdatasyncEndsTheServer$"},
		Edits: []Edit{{"\ts.fatalOnce.Do(func() { s.fatal <- fmt.Errorf(\"%w: %w\", kindOf(err), err) })\n", "\ts.log.Error(\"failed\", \"error\", err, \"kind\", kindOf(err))\n"}},
	},
	{
		Name: "server-log-replaced", Mistake: "a log that is not the manifest's is taken", Invariant: "4: nothing is skipped silently",
		File:  "ingestor/server.go",
		Edits: []Edit{{"\tdefault:\n\t\treturn fmt.Errorf(\"the manifest belongs to the log %s, but the log here is %s: one of them was lost or replaced\", state.WALID, text)\n", "\tdefault:\n\t\treturn nil\n"}},
	},
	{
		Name: "server-lsns-start-again", Mistake: "the log is not told what the sinks have", Invariant: "8: an LSN range is flushed once",
		File:  "ingestor/server.go",
		Edits: []Edit{{"FirstLSN: firstLSN + 1,", "FirstLSN: min(firstLSN, 0) + 1,"}},
	},
	{
		Name: "datadir-not-locked", Mistake: "two servers may share a data directory", Invariant: "no two processes use one log",
		File: "ingestor/internal/datadir/datadir.go", Also: []string{"ingestor/cmd/ingestion-server"},
		Edits: []Edit{{"unix.LOCK_EX|unix.LOCK_NB); err != nil {", "unix.LOCK_EX|unix.LOCK_NB); false {"}},
	},
}
