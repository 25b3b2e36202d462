// Package ingestor puts the server together: New wires its parts and recovers what an earlier life has left, Run serves
// until it is told to stop and then drains. What the parts do is theirs to say; this package knows only which needs
// which, and in what order they start and stop.
//
//	api/ingestion ──▶ services/ingestion ──▶ wal                        api/metrics ──▶ services/metrics
//	                        │    │                                                            │
//	                        │    └─▶ memtable ──▶ processor ──▶ parquetfile ──▶ manifest      │
//	                        └─▶ events ──────────────▲    └───▶ timescale ◀──────────────────┘
//
// Start: lock of the data directory, admin port, manifest, log, sinks, recovery, committer, processor, gRPC, ready.
// A null sink (NewNullSink) has nothing stored to open: admin port, gRPC, ready.
// Stop: gRPC, committer, processor (and beside them metrics), sinks, log, manifest, admin port, lock.
package ingestor
