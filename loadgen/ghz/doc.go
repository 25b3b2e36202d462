// Command ghz puts unary WriteBatch calls on a server through the runner of github.com/bojand/ghz, and prints what it
// measured as one JSON object. It is a second, independent client: its figures for the unary call should agree with the load generator's.
//
// Calls are made at a fixed rate whether or not earlier ones were answered (ghz's asynchronous mode); its synchronous mode hides
// stalls. ghz keeps every sample in memory and tops out at some ten thousand calls a second, so this is a cross-check at low
// rates, not a driver of high ones.
//
//	ghz --target HOST:PORT --api-key KEY --endpoint orders --calls 5000 --calls-per-second 500 --batch-records 100
//
// It lives in a module of its own because ghz brings hundreds of modules with it.
package main
