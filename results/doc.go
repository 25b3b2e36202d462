// Package results holds what a benchmark run has found: the versioned JSON format, the rules that turn figures into a
// verdict, the comparison of two runs, and the reports in Markdown and HTML. It measures nothing itself.
//
// # Verdict
//
// The repetition is the unit of statistics, never the request. For each objective the median over the valid repetitions
// is compared with the limit. With three or more repetitions the interval between the order statistics that enclose the
// median with at least 95 % confidence (with fewer than six: the lowest and the highest value, and the lower confidence is
// stated) must lie wholly inside the limit to pass and wholly outside to fail; anything else is inconclusive.
//
// States outrank each other in this order:
//
//  1. integrity: an acked record that is missing, stored twice or altered, in any repetition, valid or not, fails the run;
//     so does a server that ends by itself or does not come back;
//     The objectives for these counts look at the worst repetition, valid or not, instead of the median;
//  2. validity: a repetition that breaks one of its scenario's validity rules says nothing about the objectives and is set
//     aside; a scenario with fewer valid repetitions than invalid ones is inconclusive;
//  3. objectives: one that fails fails the scenario, else one that is inconclusive makes it so. An objective whose
//     metric was never measured fails.
//
// # Format
//
// Figures are in the unit that ends their name; durations are integer nanoseconds. Histograms are stored whole, in
// HdrHistogram's V2 compressed encoding as base64, so that they can be merged later. schema.json describes the format;
// SchemaVersion grows with every change that a reader would notice.
package results
