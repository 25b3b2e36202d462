package parquetfile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

const (
	tenantPrefix   = "tenant="
	endpointPrefix = "endpoint="
	datePrefix     = "date="
	hourPrefix     = "hour="
	fileSuffix     = ".parquet"
	tempSuffix     = ".parquet.tmp"

	// mixedName stands in the place of an endpoint, or of a date and an hour, for files that hold several. No escaped name
	// equals it.
	mixedName = "__mixed__"

	nanosPerHour = int64(time.Hour)
	// manyHours is the hour of a partition that holds rows of more than maxHours hours. No timestamp lies before the epoch.
	manyHours = -1
	maxHours  = 100

	// A file name has at most 255 bytes. An escaped name longer than maxEscapedBytes is cut to keptEscapedBytes and gets a
	// hash of the whole.
	maxEscapedBytes  = 200
	keptEscapedBytes = 128
)

// Escape turns a tenant's or endpoint's name into a part of a path. Letters, digits, "_", "-" and "." stay as they are,
// every other byte becomes "%" and two hexadecimal digits; so does the first byte of "." and ".." and of a name that begins
// with "__". Names that would become longer than 200 bytes are cut and end in "~" and a SHA-256. Different names stay
// different.
func Escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		special := i == 0 && (name == "." || name == ".." || strings.HasPrefix(name, "__"))
		if isPlain(c) && !special {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	if b.Len() <= maxEscapedBytes {
		return b.String()
	}
	hash := sha256.Sum256([]byte(name))
	return b.String()[:keptEscapedBytes] + "~" + hex.EncodeToString(hash[:])[:64]
}

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.'
}

// partition says where a file belongs.
type partition struct {
	tenant string
	// endpoint is empty for a mixed file.
	endpoint string
	// hour counts from the Unix epoch; or it is manyHours.
	hour int64
}

func hourOf(timeUnixNano int64) int64 { return timeUnixNano / nanosPerHour }

// path returns the file's path below the Parquet directory.
func (p partition) path(firstLSN, lastLSN uint64) string {
	endpoint := mixedName
	if p.endpoint != "" {
		endpoint = Escape(p.endpoint)
	}
	date, hour := mixedName, mixedName
	if p.hour != manyHours {
		start := time.Unix(0, p.hour*nanosPerHour).UTC()
		date, hour = start.Format(time.DateOnly), start.Format("15")
	}
	return fmt.Sprintf("%s%s/%s%s/%s%s/%s%s/%020d-%020d%s", tenantPrefix, Escape(p.tenant), endpointPrefix, endpoint,
		datePrefix, date, hourPrefix, hour, firstLSN, lastLSN, fileSuffix)
}
