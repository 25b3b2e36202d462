// Package config fills a configuration struct from four sources, the stronger first: flags, environment variables, a YAML
// file, the defaults that the struct holds already.
//
// The struct is the only list of settings. A field's path is made of its yaml tags: the field with the path
// wal.segment_bytes is set by the flag --wal.segment_bytes and the variable INGESTOR_WAL_SEGMENT_BYTES. What a source
// names and the struct does not have is an error, with file and line where there is one; it is never ignored.
//
// Fields may be string, bool, int, float64, time.Duration, ByteSize, Secret or []string (comma-separated in flags and
// variables). The tag `help` describes a field.
package config
