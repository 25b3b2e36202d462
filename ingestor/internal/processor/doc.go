// Package processor is the Data Processor: it moves sealed generations from memory, or from the log, into the sinks.
package processor
