package verify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"sync"

	"github.com/ingestor-project/ingestor/loadgen/ledger"
	"github.com/ingestor-project/ingestor/loadgen/record"
)

// row is one stored record. Its slices are valid while it is looked at.
type row struct {
	eventID           []byte
	timestampUnixNano int64
	version           int64
	payload           []byte
	contentType       []byte
	attributes        []byte // JSON; nil: none
	tenant, endpoint  []byte
	lsn               int64
}

// checker compares rows with an expectation and counts. Each goroutine has its own.
type checker struct {
	expectation *expectation
	examples    *examples
	file        string // for examples
	report      Report
	want        record.Record
	scratch     []byte
}

const defaultContentType = "application/json"

// check judges one row.
func (c *checker) check(r *row) {
	c.report.Rows++
	if len(r.eventID) != len(record.ID{}) {
		c.unexpected(r, "event_id does not have 16 bytes")
		return
	}
	identity, ok := record.Parse(record.ID(r.eventID))
	if !ok {
		c.unexpected(r, "event_id was not made by the load generator")
		return
	}
	s, ok := c.expectation.find(identity, func(_ *producer, b *ledger.Batch) bool { return b.UnixMilli == identity.UnixMilli })
	if !ok {
		c.unexpected(r, "never sent")
		return
	}
	if s.State == ledger.Absent {
		c.unexpected(r, "the batch was refused")
		return
	}
	again := c.expectation.mark(&s, identity.Index)
	if fault := c.differs(r, &s, identity.Index, again); fault != "" {
		c.fault("corrupt", &c.report.Corrupt, r, &s, identity.Index, fault)
	}
	if again {
		c.fault("duplicate", &c.report.Duplicate, r, &s, identity.Index, "")
	}
}

// differs says which column is not as sent, or "".
func (c *checker) differs(r *row, s *sent, index uint32, again bool) string {
	s.run.source.Fill(&c.want, s.record(), index)
	contentType := s.run.source.ContentType()
	if contentType == "" {
		contentType = defaultContentType
	}
	header := &s.run.header
	switch {
	case r.timestampUnixNano != c.want.TimestampUnixNano:
		return fmt.Sprintf("timestamp is %d, sent was %d", r.timestampUnixNano, c.want.TimestampUnixNano)
	case r.version != int64(c.want.Version):
		return fmt.Sprintf("version is %d, sent was %d", r.version, c.want.Version)
	case !bytes.Equal(r.payload, c.want.Payload):
		return "payload differs"
	case string(r.contentType) != contentType:
		return fmt.Sprintf("content_type is %q, sent was %q", r.contentType, contentType)
	case string(r.tenant) != header.Tenants[s.Tenant]:
		return fmt.Sprintf("tenant_id is %q, sent was %q", r.tenant, header.Tenants[s.Tenant])
	case string(r.endpoint) != header.Endpoints[s.Endpoint]:
		return fmt.Sprintf("endpoint_id is %q, sent was %q", r.endpoint, header.Endpoints[s.Endpoint])
	}
	c.scratch = record.AppendAttributesJSON(c.scratch[:0], c.want.Attributes)
	if !sameJSON(r.attributes, c.scratch) {
		return fmt.Sprintf("attributes are %q, sent was %q", r.attributes, c.scratch)
	}
	if again {
		return "" // another copy has another LSN
	}
	return lsnDiffers(r.lsn, s, index)
}

// lsnDiffers holds a row's LSN against the ack, or, where there was none with an LSN, against the batch's other rows.
func lsnDiffers(lsn int64, s *sent, index uint32) string {
	if lsn <= int64(index) {
		return fmt.Sprintf("lsn %d is too low for index %d", lsn, index)
	}
	first := uint64(lsn) - uint64(index)
	place := &s.firstAt[s.index()]
	if !place.CompareAndSwap(0, first) && place.Load() != first {
		return fmt.Sprintf("lsn is %d, other records of its batch begin at %d", lsn, place.Load())
	}
	if s.FirstLSN != 0 && first != s.FirstLSN {
		return fmt.Sprintf("lsn is %d, acked was %d", lsn, s.FirstLSN+uint64(index))
	}
	return ""
}

// sameJSON compares two JSON objects of strings; empty means none.
func sameJSON(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	var x, y map[string]string
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && maps.Equal(x, y)
}

func (c *checker) unexpected(r *row, detail string) {
	c.report.Unexpected++
	e := Example{Fault: "unexpected", Tenant: string(r.tenant), Endpoint: string(r.endpoint), LSN: uint64(r.lsn),
		File: c.file, Detail: detail}
	if len(r.eventID) == len(record.ID{}) {
		e.EventID = record.ID(r.eventID).String()
	}
	c.examples.add(e)
}

func (c *checker) fault(name string, count *uint64, r *row, s *sent, index uint32, detail string) {
	*count++
	if !c.examples.wanted(name) {
		return
	}
	e := s.example(name, index, detail)
	e.LSN, e.File = uint64(r.lsn), c.file
	c.examples.add(e)
}

// maxExamples bounds the examples of each fault.
const maxExamples = 5

// examples collects the first few faults of each kind. It is safe for concurrent use.
type examples struct {
	mu    sync.Mutex
	count map[string]int
	list  []Example
}

func newExamples() *examples { return &examples{count: make(map[string]int)} }

func (x *examples) wanted(fault string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.count[fault] < maxExamples
}

func (x *examples) add(e Example) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.count[e.Fault]++; x.count[e.Fault] <= maxExamples {
		x.list = append(x.list, e)
	}
}

// add takes over the counts of a checker.
func (r *Report) add(o *Report) {
	r.Rows += o.Rows
	r.Duplicate += o.Duplicate
	r.Corrupt += o.Corrupt
	r.Unexpected += o.Unexpected
	r.Files += o.Files
	r.FilesMissing += o.FilesMissing
}
