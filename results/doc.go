// Package results holds what a benchmark run has found: the versioned JSON format, the rules that turn figures into a
// verdict, the comparison of two runs, and the reports in Markdown and HTML. It measures nothing itself.
//
// # Verdict
//
// The repetition is the unit of statistics, never the request. For each objective the median over the valid repetitions
// is compared with the limit. With two or more repetitions the interval between the order statistics that enclose the
// median with at least 95 % confidence (with fewer than six: the lowest and the highest value, and the lower confidence is
// stated) must lie wholly inside the limit to pass and wholly outside to fail; anything else is inconclusive. Nothing is assumed about
// the distribution: of n values the lowest and the highest enclose the true median with probability 1 - 2^(1-n), so
//
//	repetitions   1     2     3     4      5       6        7        8        9
//	confidence    none  50 %  75 %  87.5%  93.75%  96.875%  98.4375% 99.2188% 96.09% (without the extremes)
//
// A single repetition has no interval; its figure is judged alone, and reports say so. A scenario may demand a confidence
// (validity.min_confidence_pct). A rate counts only with the ack level that its acks carried, and where everything acked was read
// back; a run without the device's fdatasync figures is inconclusive.
//
// States outrank each other in this order:
//
//  1. integrity: an acked record that is missing, stored twice or altered, in any repetition, valid or not, fails the run;
//     so does a server that ends by itself or does not come back;
//     The objectives for these counts look at the worst repetition, valid or not, instead of the median;
//  2. validity: a repetition that breaks one of its scenario's validity rules says nothing about the objectives and is set
//     aside; a scenario that has not more valid repetitions than invalid ones is inconclusive;
//  3. objectives: one that fails fails the scenario, else one that is inconclusive makes it so. An objective whose
//     metric has no sample in any repetition fails: so does "no failed batch" where no batch was sent, and "no missing record" where
//     none was acked. One that only some repetitions measured is inconclusive.
//
// # Format
//
// Figures are in the unit that ends their name; durations are integer nanoseconds. Histograms are stored whole, in
// HdrHistogram's V2 compressed encoding as base64, so that they can be merged later. schema.json describes the format;
// SchemaVersion grows with every change that a reader would notice.
package results
