// Package exchange turns a proven identity into the credential that is bound to
// it: service types, the auth methods by which Bindery calls them, the bindings
// of identities, and the calls themselves.
//
// The path of one token ([Service.Token]):
//
//	look    what stands in the store now; where this process alone writes the store,
//	        from memory unless a change made that old (see stamps); once more after the
//	        call, where a change may have overtaken it
//	check   service type, auth type, host, auth method, binding and its issuer, in this order
//	fetch   the token: kept from the last call, or from a call that is under way for
//	        the same state of the same binding, or from one of its own
//	call    through the host's gate, which bounds calls and refuses them while the host is down
//	record  who authenticated, in memory, written each second by [Service.Run]
//
// Every change is one transaction with its audit. When it is acknowledged, no
// lookup, shared call or kept token of what was before is used by anybody who asks
// afterwards: lookups by their stamps, calls and tokens by the revisions that they
// are filed under.
package exchange
