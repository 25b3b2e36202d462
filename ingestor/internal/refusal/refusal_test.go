package refusal

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestErrorNamesTheRecord(t *testing.T) {
	e := New(InvalidField, "event_id", "event_id has %d bytes, not 16", 3)
	require.Equal(t, NoRecord, e.RecordIndex)
	require.EqualError(t, e, "event_id has 3 bytes, not 16")
	e.RecordIndex, e.EventID = 0, []byte{1, 2, 3}
	require.EqualError(t, e, "record 0 (event_id 010203): event_id has 3 bytes, not 16")
}

func TestRetryCarriesItsDelay(t *testing.T) {
	e := Retry(Overloaded, time.Second, "full")
	require.Equal(t, Overloaded, e.Code)
	require.Equal(t, time.Second, e.RetryDelay)
	require.Equal(t, NoRecord, e.RecordIndex)
}
