// Package ingestion makes batches durable.
package ingestion
