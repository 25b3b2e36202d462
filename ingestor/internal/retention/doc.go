// Package retention removes what is older than it is to be kept, from every store.
//
// Age is that of a record's own timestamp, not of its arrival: a record that comes in late may be removed at once. A Policy says how
// long each tenant's records and metrics are kept; stores apply it in their own way and never remove anything younger. What is still in the log only
// is not touched: it goes to the stores first.
//
// Start starts one goroutine, which Close joins.
package retention
