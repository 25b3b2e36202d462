package verify

import "fmt"

// Report is the judgement on one place where records are stored.
type Report struct {
	Source string `json:"source"` // "parquet" or "postgres"
	// What the ledgers say, in records.
	Sent    uint64 `json:"sent"`
	Acked   uint64 `json:"acked"`
	Unknown uint64 `json:"unknown"` // sent without an answer; may be stored, whole batches only
	Refused uint64 `json:"refused"`
	// What is stored, in rows.
	Rows          uint64 `json:"rows"`
	UnknownStored uint64 `json:"unknown_stored"` // rows of batches without an answer
	// BufferedLost counts records that were acked as BUFFERED and are gone with a crash, as that level allows.
	BufferedLost uint64 `json:"buffered_lost,omitempty"`
	// What is wrong. All of these must be 0.
	Missing        uint64 `json:"missing"`         // acked records that are not stored
	Duplicate      uint64 `json:"duplicate"`       // rows beyond the first of a record
	Corrupt        uint64 `json:"corrupt"`         // rows of which any column differs
	Unexpected     uint64 `json:"unexpected"`      // rows never sent, or sent and refused
	PartialBatches uint64 `json:"partial_batches"` // batches of which some records are stored and some not
	OutOfOrder     uint64 `json:"out_of_order"`    // batches whose log position contradicts the order of sending, or overlaps another's
	Holes          uint64 `json:"holes"`           // unanswered batches that are gone although a later one of their producer is stored
	FilesMissing   uint64 `json:"files_missing"`   // listed by the manifest, but not there or not readable
	// Files that the manifest does not list. They are leftovers, not data; the server deletes them at its start.
	FilesUnlisted uint64 `json:"files_unlisted"`
	Files         uint64 `json:"files"`
	// Examples holds the first few of each fault.
	Examples []Example `json:"examples,omitempty"`
}

// Example is one fault by identity.
type Example struct {
	Fault    string `json:"fault"` // a field name of Report, as in its JSON
	EventID  string `json:"event_id,omitempty"`
	Tenant   string `json:"tenant,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Producer uint16 `json:"producer,omitempty"`
	Sequence uint64 `json:"sequence,omitempty"`
	Index    uint32 `json:"index,omitempty"`
	LSN      uint64 `json:"lsn,omitempty"`
	File     string `json:"file,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// OK reports whether nothing is wrong.
func (r *Report) OK() bool {
	return r.Missing+r.Duplicate+r.Corrupt+r.Unexpected+r.PartialBatches+r.OutOfOrder+r.Holes+r.FilesMissing == 0
}

// String is the report on one line.
func (r *Report) String() string {
	return fmt.Sprintf("%s: %d acked, %d missing, %d duplicate, %d corrupt, %d unexpected, %d partial batches, "+
		"%d out of order, %d holes, %d files missing; %d rows in %d files, %d records unknown of which %d stored",
		r.Source, r.Acked, r.Missing, r.Duplicate, r.Corrupt, r.Unexpected, r.PartialBatches,
		r.OutOfOrder, r.Holes, r.FilesMissing, r.Rows, r.Files, r.Unknown, r.UnknownStored)
}
