// Package wal is the write-ahead log.
package wal
