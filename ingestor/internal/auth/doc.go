// Package auth turns a credential into a Principal: the tenant a client writes for and the endpoints it may write to.
//
// A credential travels as gRPC metadata, "authorization: Bearer <credential>". It is an API key ("ik_" and 43 characters)
// or a JWT. The server keeps no API key, only its SHA-256: a key is 256 random bits, so a plain hash cannot be
// searched. Hashes are compared in constant time.
//
// Guarantees:
//
//  1. No call but the health service's reaches a handler without a Principal in its context.
//  2. A JWT is accepted only with an algorithm that is configured and that fits the kind of its key: a public key is never
//     taken for an HMAC secret. It must expire; issuer and audience must match where they are configured.
//  3. Reload replaces keys, JWKS file and certificates together or not at all: after a bad file the old ones stay in
//     force and the error is returned.
//  4. Neither errors nor log lines hold a credential or any part of one, nor do answers say why one was refused.
//
// An Authenticator is safe for concurrent use. The only goroutine is the JWKS client's, where a URL is configured;
// Close ends it.
package auth
