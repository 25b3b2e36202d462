// Package rpc holds what the gRPC APIs share: the server's codec and the mapping of refusals to gRPC statuses.
//
// # Codec
//
// Codec is the codec named "proto". It speaks ordinary protobuf, with two exceptions for the hot path: a handler that
// receives into a *RawMessage gets the message's bytes as they came from the connection, undecoded and uncopied, and a
// response that is an Encoder writes itself. Clients notice nothing. Install it with grpc.ForceServerCodecV2(rpc.Codec{}).
//
// # Refusals
//
// Status and Error turn a *refusal.Error into a gRPC status whose details hold a storage.BatchError and, where trying
// again later can help, a google.rpc.RetryInfo. BatchError makes the same message for streams, which answer a refused
// batch without ending.
package rpc
