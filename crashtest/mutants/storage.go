package mutants

const (
	manifestDir  = "ingestor/internal/storage/manifest"
	parquetDir   = "ingestor/internal/storage/parquetfile"
	timescaleDir = "ingestor/internal/storage/timescale"
)

var manifestMutants = []Mutant{
	{
		Name: "manifest-edit-not-synced", Mistake: "an edit is written and not synced", Invariant: "8: files and checkpoint become durable together",
		File: manifestDir + "/manifest.go", Also: []string{parquetDir},
		Edits: []Edit{{"\tif err := m.file.Datasync(); err != nil {", "\tif err := error(nil); err != nil {"}},
	},
	{
		Name: "manifest-file-not-synced", Mistake: "a manifest or a dedupe snapshot gets its name before its contents are durable", Invariant: "8: temp -> fsync -> rename",
		File:  manifestDir + "/manifest.go",
		Edits: []Edit{{"\t\terr = file.Sync()\n", "\t\terr = nil\n"}},
	},
	{
		Name: "manifest-rename-not-synced", Mistake: "a dedupe snapshot is put in force before its name is durable", Invariant: "10: retries are safe",
		File:  manifestDir + "/manifest.go",
		Edits: []Edit{{"\tif err := m.fsys.SyncDir(m.dir); err != nil {", "\tif err := error(nil); err != nil {"}},
	},
	{
		Name: "manifest-directory-name-not-synced", Mistake: "the name of the manifest's directory is not made durable", Invariant: "8: fsync of the directory",
		File: manifestDir + "/manifest.go", Server: []string{powerCuts},
		Edits: []Edit{{"\tif err := fsys.SyncDir(filepath.Dir(dir)); err != nil {", "\tif err := error(nil); err != nil {"}},
	},
	{
		Name: "manifest-checksum-ignored", Mistake: "the checksum of a line is not checked", Invariant: "4: nothing is skipped silently",
		File:  manifestDir + "/line.go",
		Edits: []Edit{{"string(stored) != Checksum(edit) {", "false && string(stored) != Checksum(edit) {"}},
	},
	{
		Name: "manifest-gap-accepted", Mistake: "an edit may be missing between two others", Invariant: "4: nothing is skipped silently",
		File:  manifestDir + "/line.go",
		Edits: []Edit{{"\t\tcase !first && e.Seq != lastSeq+1:", "\t\tcase false:"}},
	},
	{
		Name: "manifest-damage-is-torn", Mistake: "damage in the middle of the manifest is cut off like a torn tail", Invariant: "4: torn is not corrupt",
		File:  manifestDir + "/line.go",
		Edits: []Edit{{" && isTorn(rest, offset) && !followedByLine(rest) {", " && (isTorn(rest, offset) || followedByLine(rest) || true) {"}},
	},
	{
		Name: "manifest-poison-forgotten", Mistake: "a manifest whose sync failed goes on", Invariant: "2: a failed sync is final",
		File:  manifestDir + "/manifest.go",
		Edits: []Edit{{"\tm.poison = err\n\treturn m.poisoned()\n", "\treturn fmt.Errorf(\"%w: %w\", ErrPoisoned, err)\n"}},
	},
	{
		Name: "manifest-refused-edit-left", Mistake: "what a full disk took of an edit is not cut off again", Invariant: "12: no space is not an accident",
		File:  manifestDir + "/manifest.go",
		Edits: []Edit{{"if err := errors.Join(m.file.Truncate(m.sizeBytes), m.file.Datasync()); err != nil {", "if err := error(nil); err != nil {"}},
	},
	{
		Name: "manifest-former-snapshot-removed-first", Mistake: "the former dedupe snapshot is removed before the new one is in force", Invariant: "10: retries are safe",
		File: manifestDir + "/manifest.go",
		Edits: []Edit{{"\tformer := m.state.Dedupe\n", "\tformer := m.state.Dedupe\n\tif edit.Dedupe != nil && former != nil && former.Name != edit.Dedupe.Name {\n" +
			"\t\t_ = m.fsys.Remove(filepath.Join(m.dir, former.Name))\n\t\t_ = m.fsys.SyncDir(m.dir)\n\t}\n"}},
	},
	{
		Name: "manifest-snapshot-unchecked", Mistake: "a dedupe snapshot is not compared with what the manifest says of it", Invariant: "4: nothing is skipped silently",
		File:  manifestDir + "/snapshot.go",
		Edits: []Edit{{"\tif int64(len(contents)) != s.Bytes || Checksum(contents) != s.CRC32C {", "\tif false {"}},
	},
	{
		Name: "manifest-checkpoint-moves-back", Mistake: "a sink's checkpoint may move back", Invariant: "8: an LSN range is flushed once",
		File:  manifestDir + "/state.go",
		Edits: []Edit{{"\t\tif lsn < s.Flushed[sink] {", "\t\tif false {"}},
	},
}

var parquetMutants = []Mutant{
	{
		Name: "parquet-file-not-synced", Mistake: "a Parquet file is not synced before its rename", Invariant: "8: temp -> fsync -> rename",
		File: parquetDir + "/output.go", Server: []string{powerCuts},
		Edits: []Edit{{"\treturn o.writtenBytes, o.crc32c, o.file.Sync()\n", "\treturn o.writtenBytes, o.crc32c, nil\n"}},
	},
	{
		Name: "parquet-rename-not-synced", Mistake: "the manifest lists files before their names are durable", Invariant: "8: fsync of the directory, then the manifest",
		File: parquetDir + "/writer.go", Server: []string{powerCuts},
		Edits: []Edit{{"\t\tif err := w.fsys.SyncDir(dir); err != nil {", "\t\tif err := error(nil); err != nil && dir != \"\" {"}},
	},
	{
		Name: "parquet-directory-not-synced", Mistake: "the names of new partition directories are not made durable", Invariant: "8: fsync of the directory",
		File: parquetDir + "/writer.go", Server: []string{powerCuts},
		Edits: []Edit{{"\tif err := w.fsys.SyncDir(w.absolute(parent)); err != nil {", "\tif err := error(nil); err != nil {"}},
	},
	{
		Name: "parquet-not-read-back", Mistake: "files are not read back before the log below them is cut", Invariant: "8: what was written is what was meant",
		File:  parquetDir + "/writer.go",
		Edits: []Edit{{"\tif err := verify(w.lanes, w.fsys, temp, w.direct, want); err != nil {", "\tif err := error(nil); err != nil {"}},
	},
	{
		Name: "parquet-read-back-ignores-values", Mistake: "reading back compares the bytes and not the values", Invariant: "8: what was written is what was meant",
		File:  parquetDir + "/verify.go",
		Edits: []Edit{{"\t\t\treturn lane.verifier.verifyGroup(decoded.RowGroups()[i], &rows)\n", "\t\t\t_, _ = decoded, rows\n\t\t\treturn nil\n"}},
	},
	{
		Name: "parquet-orphans-left", Mistake: "files that the manifest does not list stay for readers", Invariant: "8: what is not listed does not exist",
		File:  parquetDir + "/startup.go",
		Edits: []Edit{{"\t\treturn s.opts.FS.Remove(s.writer.absolute(relative))\n", "\t\treturn nil\n"}},
	},
	{
		Name: "parquet-listed-file-missing", Mistake: "a file that the manifest lists may be shorter than it says", Invariant: "4: nothing is skipped silently",
		File:  parquetDir + "/startup.go",
		Edits: []Edit{{"\t\tif size != f.Bytes {", "\t\tif false {"}},
	},
	{
		Name: "parquet-lost-manifest-condemns-files", Mistake: "an empty manifest is made beside files, which then die as orphans", Invariant: "8: what is listed exists",
		File:  parquetDir + "/startup.go",
		Edits: []Edit{{"\tif errors.Is(err, fs.ErrNotExist) {\n\t\treturn nil\n\t}\n\treturn err\n}\n\n// levels", "\tif errors.Is(err, fs.ErrNotExist) || err != nil {\n\t\treturn nil\n\t}\n\treturn err\n}\n\n// levels"}},
	},
	{
		Name: "parquet-commit-before-publish", Mistake: "the checkpoint is advanced before the files have their names", Invariant: "8: files, then the manifest commit",
		File: parquetDir + "/sink.go", Server: []string{powerCuts},
		Edits: []Edit{
			{"\tfiles, err := s.writer.publish()\n\tif err != nil {\n\t\ts.writer.discard()\n\t\treturn err\n\t}\n\terr = s.opts.Manifest.Commit(",
				"\tfiles := s.writer.pending\n\terr := s.opts.Manifest.Commit("},
			{"\ts.metrics.count(files)\n\treturn nil\n", "\tif _, err := s.writer.publish(); err != nil {\n\t\treturn err\n\t}\n\ts.metrics.count(files)\n\treturn nil\n"},
		},
	},
	{
		Name: "parquet-checkpoint-apart", Mistake: "the files are committed in one edit and the checkpoint in the next", Invariant: "8: both or neither",
		File: parquetDir + "/sink.go", Server: []string{powerCuts},
		Edits: []Edit{{"\terr = s.opts.Manifest.Commit(manifest.Edit{AddFiles: files, Flushed: map[string]uint64{SinkName: g.Last}})\n",
			"\terr = s.opts.Manifest.Commit(manifest.Edit{AddFiles: files})\n\tif err == nil {\n\t\terr = s.opts.Manifest.Commit(manifest.Edit{Flushed: map[string]uint64{SinkName: g.Last}})\n\t}\n"}},
	},
	{
		Name: "parquet-flush-ignores-checkpoint", Mistake: "a generation is stored whatever the checkpoint is", Invariant: "8: an LSN range is flushed once",
		File:  parquetDir + "/sink.go",
		Edits: []Edit{{"flushed := s.opts.Manifest.Flushed(SinkName); flushed != previous {", "flushed := s.opts.Manifest.Flushed(SinkName); false {"}},
	},
	{
		Name: "parquet-tenant-lost", Mistake: "of several tenants only the first is written", Invariant: "13: conservation",
		File:  parquetDir + "/sink.go",
		Edits: []Edit{{"\t\ttables = tables[n:]\n", "\t\ttables = nil\n"}},
	},
	{
		Name: "parquet-expires-younger-rows", Mistake: "retention takes files that have younger rows as well", Invariant: "13: conservation",
		File:  parquetDir + "/expire.go",
		Edits: []Edit{{"f.MaxTimeUnixNano >= cutoff.UnixNano()", "f.MinTimeUnixNano >= cutoff.UnixNano()"}},
	},
	{
		Name: "parquet-expired-removed-first", Mistake: "retention removes files before the manifest stops listing them", Invariant: "8: what is listed exists",
		File: parquetDir + "/expire.go",
		Edits: []Edit{{"\t\tif err := s.opts.Manifest.Commit(manifest.Edit{RemoveFiles: paths}); err != nil {",
			"\t\tfor _, path := range paths {\n\t\t\t_ = s.opts.FS.Remove(s.writer.absolute(path))\n\t\t}\n\t\tif err := s.opts.Manifest.Commit(manifest.Edit{RemoveFiles: paths}); err != nil {"}},
	},
	{
		Name: "parquet-sync-error-is-retried", Mistake: "a failed sync of a directory is no reason to stop", Invariant: "2: a failed sync is final",
		File:  parquetDir + "/sink.go",
		Edits: []Edit{{"\treturn fatalError{err}\n}\n\nfunc (s *Sink) run(", "\treturn err\n}\n\nfunc (s *Sink) run("}},
	},
}

var timescaleMutants = []Mutant{
	{
		Name: "timescale-checkpoint-outside-transaction", Mistake: "the checkpoint is moved in a transaction of its own", Invariant: "8: rows and LSN in one transaction",
		File: timescaleDir + "/recordsink.go",
		Edits: []Edit{{"\t\treturn s.move(ctx, tx, previous, last)\n\t})\n\tvar unknown *CommitUnknownError\n",
			"\t\treturn nil\n\t})\n\tif err == nil {\n\t\terr = s.transactions.Run(ctx, func(ctx context.Context, tx pgx.Tx) error { return s.move(ctx, tx, previous, last) })\n\t}\n\tvar unknown *CommitUnknownError\n"}},
	},
	{
		Name: "timescale-checkpoint-unguarded", Mistake: "the checkpoint is moved from wherever it is", Invariant: "8: guarded by the expected old LSN",
		File:  timescaleDir + "/recordsink.go",
		Edits: []Edit{{"AND flushed_lsn = $3 AND owner_epoch", "AND flushed_lsn >= least($3, 0) AND owner_epoch"}},
	},
	{
		Name: "timescale-owner-unguarded", Mistake: "a server whose checkpoint was claimed by another one goes on", Invariant: "8: guarded by the owner's epoch",
		File:  timescaleDir + "/recordsink.go",
		Edits: []Edit{{"AND owner_epoch = $4`, int64(last)", "AND owner_epoch >= least($4, 0)`, int64(last)"}},
	},
	{
		Name: "timescale-unknown-commit-is-success", Mistake: "a commit whose answer was lost counts as done", Invariant: "8: exactly once",
		File:  timescaleDir + "/transaction.go",
		Edits: []Edit{{"\treturn &CommitUnknownError{Err: err}\n", "\treturn nil\n"}},
	},
	{
		Name: "timescale-asynchronous-commits", Mistake: "the database may answer a commit before it is durable", Invariant: "8: on nil it is durable",
		File:  timescaleDir + "/config.go",
		Edits: []Edit{{"\"synchronous_commit\": \"on\",", "\"synchronous_commit\": \"off\","}},
	},
	{
		Name: "timescale-gap-in-generation", Mistake: "a generation may lack batches", Invariant: "13: conservation",
		File:  timescaleDir + "/recordsink.go",
		Edits: []Edit{{"b.First != position+1 {", "false {"}},
	},
	{
		Name: "timescale-stored-batches-again", Mistake: "batches below the checkpoint are stored again", Invariant: "8: an LSN range is flushed once",
		File: timescaleDir + "/recordsink.go",
		Edits: []Edit{
			{"\t\t\tif b.Last <= previous {", "\t\t\tif false {"},
			{"b.First != position+1 {", "false {"},
		},
	},
}
