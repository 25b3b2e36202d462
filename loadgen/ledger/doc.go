// Package ledger keeps, outside the server, what was sent to it and what it acked. The judge (package verify) compares
// what the server stored with it.
//
// A ledger is one append-only file with one entry for each event in a batch's life:
//
//	file   = magic "INGLEDG1" | header length (4) | CRC32C of the header (4) | header (JSON) | entry*
//	entry  = kind (1) | level or error code (1) | producer (2) | epoch (4) | sequence (8) | A (8) | B (8) | C (4) | D (4) | CRC32C (4)
//
//	kind      A                B           C         D
//	sent      Unix ms          first row   records   endpoint<<14 | tenant
//	acked     first LSN        0           records   1 when the server called it a duplicate
//	refused   0                0           0         0
//	turned down 0              0           0         0
//	crashed   0                0           0         0        (producer, epoch and sequence are 0 as well)
//
// All numbers are little-endian; the CRC covers the 40 bytes before it. "Sent" is written before the batch is given to the
// network, "acked" and "refused" after its answer was read. A batch with "sent" alone has an unknown outcome: the server may hold all of
// it or none of it. "Turned down" is a negative answer after which the outcome is still unknown: an earlier attempt may have stored the
// batch, or another one will follow. "Crashed" is written by who ends the server's process by force: what is acked as BUFFERED
// anywhere in this ledger may be lost.
//
// Entries are buffered: the ledger survives the death of the server, not that of the load generator. Flush and Close write
// everything. A reader accepts a torn last entry and stops there; damage before the end is an error.
//
// A Writer may be used by many goroutines. Nothing here starts goroutines.
package ledger
