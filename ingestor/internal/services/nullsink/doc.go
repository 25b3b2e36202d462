// Package nullsink takes the place of the ingestion service where nothing is to be stored: it answers every batch at once, and forgets
// it. What a server with it can take is the ceiling of the machine, the transport and the validation, which the figures of a durable
// server are held against.
//
// Its acks never look durable: they say BUFFERED, whatever the client has asked for. It owns no goroutine.
package nullsink
