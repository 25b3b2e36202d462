package batch

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEnvelopeGolden(t *testing.T) {
	payload := append(AppendEnvelope(nil, "acme", 0x0102030405060708), "request"...)
	require.Equal(t, "\x01\x04\x00acme\x08\x07\x06\x05\x04\x03\x02\x01request", string(payload))
}

func TestEnvelopeRoundTrip(t *testing.T) {
	for _, tenant := range []string{"", "acme", "größe", strings.Repeat("x", MaxTenantBytes)} {
		for _, received := range []int64{0, -1, 1_700_000_000_000_000_000} {
			payload := AppendEnvelope(nil, tenant, received)
			require.Len(t, payload, EnvelopeBytes(tenant))
			payload = append(payload, "raw"...)
			gotTenant, gotReceived, raw, err := ParseEnvelope(payload)
			require.NoError(t, err)
			require.Equal(t, tenant, string(gotTenant))
			require.Equal(t, received, gotReceived)
			require.Equal(t, "raw", string(raw))
		}
	}
}

func TestEnvelopeRefusesWhatIsCutOffOrOfAnotherVersion(t *testing.T) {
	payload := AppendEnvelope(nil, "acme", 1)
	for n := range len(payload) {
		_, _, _, err := ParseEnvelope(payload[:n])
		require.ErrorIs(t, err, ErrEnvelope, "%d bytes", n)
	}
	payload[0]++
	_, _, _, err := ParseEnvelope(payload)
	require.ErrorIs(t, err, ErrEnvelope)
}

func FuzzParseEnvelope(f *testing.F) {
	f.Add(append(AppendEnvelope(nil, "acme", 5), "raw"...))
	f.Fuzz(func(t *testing.T, payload []byte) {
		tenant, received, raw, err := ParseEnvelope(payload)
		if err == nil {
			require.Equal(t, payload, append(AppendEnvelope(nil, string(tenant), received), raw...))
		}
	})
}
