// Command bench puts load on the ingestion server, judges what it measured, and compares results. `bench --help` teaches
// it.
package main
