// Package scenarios holds the benchmark scenarios that ship with the project, and the strict loader for them and for a
// user's own.
//
// A scenario is a YAML file that states the server's tuning, the load, what happens to the server meanwhile, the
// objectives, and the rules under which a measurement counts. schema.json describes the format; docs are in its
// descriptions. The loader refuses unknown keys, wrong types and names that do not exist, all problems at once, each with
// file and line, and with a suggestion where a name looks misspelt.
//
// # Sets
//
// Scenarios run together in sets: "default" is every file at the top, "hot" and "sustained" are the directories of those names.
// The latter two hold the project's performance targets: their objectives carry a target's name and, in words, what others
// reach, and reports print a table of those.
//
// # Ceilings
//
// A rate means little on another machine; its share of what that machine can give means the same everywhere. So a scenario may name
// ceilings, which every repetition takes right after its load: the same load, closed loop, against a server that validates and
// stores nothing (null_sink), against one that does not look at the request (empty_handler), against a fresh server for one
// (tenant, endpoint) alone (single_pair); and one writer that makes the load's batches durable one by one (raw_disk).
//
// # Only in the log
//
// With processor.paused the server flushes nothing, which shows the path of the ack alone. After the load it is killed or drained as
// "end" says, started again without the pause, and drained. So the records are judged as always, and after a kill the figures
// count only if the replay brought back everything that was acked.
//
// Such a log recycles no segment. To measure what a log in its steady state does, these scenarios let the server fill all
// segments with zeros before it is ready (spare_segments), and leave no room for more (max_bytes), because filling them would
// take disk time. A load that outgrows the log is refused (NO_SPACE), which shows as failed batches.
package scenarios
