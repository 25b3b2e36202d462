// Package dedupe remembers which batches of which producers the log holds, so that a batch that is sent again after a
// lost answer is acknowledged again and stored once.
//
// A producer is (tenant, 16 random bytes). Its batches carry an epoch and a sequence. The table keeps, for each
// producer, its epoch, its last sequence and the log positions of its last WindowBatches batches:
//
//   - a sequence above the last one is new; gaps are allowed;
//   - a sequence at or below the last one is a duplicate where the window holds it, and out of order where it does not;
//   - a higher epoch starts a new sequence and forgets the window; a lower one is fenced.
//
// The number of producers is bounded. Beyond it the producer that stored nothing for the longest time is forgotten:
// if it comes back and resends a batch from before, that batch is stored a second time. Size the bound above the
// number of producers that are active within the longest retry time; a metric counts the forgotten.
//
// Two copies of the table exist. The committer's knows all that is in the log. The processor's follows it one sealed
// generation at a time, is written into a snapshot before the log is cut, and is what a restart begins with. Both
// apply the same stored batches in the same order, and only stored batches change a table, so that they agree about
// every producer, forgotten ones included.
//
// A Table is not safe for concurrent use.
package dedupe
