// Package metrics serves metrics.v1.MetricsService: it validates requests, gives them the tenant of the credential, and
// turns refusals into gRPC statuses.
//
// Without a database the service is registered all the same, and answers every call with UNSUPPORTED, naming the
// setting.
//
// A stream is served by three goroutines: one reads requests, one validates and submits them, and the handler itself
// waits for what each one asked for and sends the answers, in the order of the requests. After Drain what has been
// submitted is answered and the stream ends, so that an idle stream does not hold up a graceful stop. Close joins the
// other two.
package metrics
