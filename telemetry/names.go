package telemetry

// The names of all metrics that Bindery makes itself. docs/operating.md lists
// what they mean; a test compares the two.
const (
	// Requests counts HTTP requests, by face, method, route and status.
	Requests = "bindery_http_requests_total"
	// RequestSeconds measures them, by face, method and route.
	RequestSeconds = "bindery_http_request_duration_seconds"
	// DriverCalls counts calls of a backend, by kind, server, method and outcome (ok, or an error's code).
	DriverCalls = "bindery_driver_calls_total"
	// DriverSeconds measures them, by kind, server and method.
	DriverSeconds = "bindery_driver_call_duration_seconds"
	// DriverBusy is how many calls a backend has to answer right now, by kind and server.
	DriverBusy = "bindery_driver_calls_in_flight"
	// StoreTransactions counts transactions, by method (update, view, resolve) and outcome.
	StoreTransactions = "bindery_store_transactions_total"
	// StoreSeconds measures them, by method; waiting for others' commits included.
	StoreSeconds = "bindery_store_transaction_duration_seconds"
	// Operations counts operations that ended, by kind, server and result (succeeded, failed).
	Operations = "bindery_operations_total"
	// OperationSeconds measures them from their recording to their end, by kind and server.
	OperationSeconds = "bindery_operation_duration_seconds"
	// OperationRetries counts runs of operations that ended with a problem and will be run again, by kind and server.
	OperationRetries = "bindery_operation_retries_total"
	// ReconcileRuns counts comparisons of a server with the store, by server and outcome.
	ReconcileRuns = "bindery_reconcile_runs_total"
	// ReconcileFindings counts what they found, by server and finding (removed, restored, unknown).
	ReconcileFindings = "bindery_reconcile_findings_total"
	// AccountsUnproven is how many removed accounts are yet to be proven dead, by server.
	AccountsUnproven = "bindery_accounts_unproven"
	// AccountsStuck is how many removed accounts still let somebody in, or nobody can say, by server.
	AccountsStuck = "bindery_accounts_stuck"
	// Proofs counts tries to prove a removed account dead, by server and outcome (proven, alive, unknown).
	Proofs = "bindery_proofs_total"
	// PoolItems is how many items of a pool are in each state, by server and state (free, taken, quarantine).
	PoolItems = "bindery_pool_items"
	// ServerUp is 1 where the server answered its last check, 0 otherwise, by kind and server.
	ServerUp = "bindery_server_up"
	// Authentications counts authentications at the identity face whose caller was proven, by service type's type, auth type, result (succeeded, or an error's code) and source (upstream, joined, cached).
	Authentications = "bindery_authentications_total"
	// AuthenticationSeconds measures them, by type and auth type.
	AuthenticationSeconds = "bindery_authentication_duration_seconds"
	// UpstreamSeconds measures the calls of services that they made, by type.
	UpstreamSeconds = "bindery_upstream_call_duration_seconds"
	// CRLNextUpdate is when each revocation list ends, in seconds since 1970, by issuer.
	CRLNextUpdate = "bindery_crl_next_update_timestamp_seconds"
	// CRLEntries is how many certificates it revokes, by issuer.
	CRLEntries = "bindery_crl_entries"
	// Reloads counts reloads of the configuration, by result (applied, refused).
	Reloads = "bindery_config_reloads_total"
	// Build is always 1 and carries the version.
	Build = "bindery_build_info"
)

// Names lists them, for the test of the documents.
var Names = []string{
	Requests, RequestSeconds, DriverCalls, DriverSeconds, DriverBusy, StoreTransactions, StoreSeconds,
	Operations, OperationSeconds, OperationRetries, ReconcileRuns, ReconcileFindings, AccountsUnproven, AccountsStuck, Proofs, PoolItems,
	ServerUp, Reloads, Build,
	Authentications, AuthenticationSeconds, UpstreamSeconds, CRLNextUpdate, CRLEntries,
}
