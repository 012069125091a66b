package rabbitmq

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"

	"bindery"
)

// A request is one to the management API. Names are single segments of its path,
// escaped, and values stand in JSON: nothing is ever put together as text.
type request struct {
	method, path, query string
	body                any // nil: none
}

// changes reports whether the request may leave something behind.
func (r request) changes() bool { return r.method != http.MethodGet }

// path escapes its segments. What the standard library leaves as it is, and
// servers take for steps in a tree, is escaped too.
func path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/api")
	for _, s := range segments {
		b.WriteByte('/')
		if s == "." || s == ".." {
			b.WriteString(strings.ReplaceAll(s, ".", "%2E"))
			continue
		}
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

func get(query string, segments ...string) request {
	return request{method: http.MethodGet, path: path(segments...), query: query}
}

func put(body any, segments ...string) request {
	return request{method: http.MethodPut, path: path(segments...), body: body}
}

func remove(segments ...string) request {
	return request{method: http.MethodDelete, path: path(segments...)}
}

// The answers to these are cut to names: what else a broker says of its users and
// vhosts (hashes, statistics) is long, and nobody reads it.
func listUsers() request  { return get("columns=name", "users") }
func listVhosts() request { return get("columns=name&disable_stats=true", "vhosts") }

func getUser(name string) request    { return get("columns=name", "users", name) }
func deleteUser(name string) request { return remove("users", name) }

// A user as the API takes it.
type user struct {
	Hash      string `json:"password_hash"`
	Algorithm string `json:"hashing_algorithm"`
	Tags      string `json:"tags"`
}

// The tags that users get. Who has none may not use the management API at all;
// neither may set policies, shovels or federation, which reach beyond a vhost.
const (
	tagNone          = ""
	tagManagement    = "management"
	tagAdministrator = "administrator"
)

// putUser makes a user, or gives one another password and other tags: the answers differ.
func putUser(name string, password bindery.Secret, tags string) request {
	return put(user{Hash: hash(password, salt()), Algorithm: "rabbit_password_hashing_sha256", Tags: tags}, "users", name)
}

func salt() (s [4]byte) {
	rand.Read(s[:])
	return s
}

// hash is what the broker keeps of a password: a salt of four bytes, and the
// SHA-256 of salt and password. Made here, it keeps the password out of the broker.
func hash(password bindery.Secret, salt [4]byte) string {
	sum := sha256.Sum256(append(salt[:], password.Reveal()...))
	return base64.StdEncoding.EncodeToString(append(salt[:], sum[:]...))
}

// permissions are regular expressions over the names of queues and exchanges.
type permissions struct {
	Configure string `json:"configure"`
	Write     string `json:"write"`
	Read      string `json:"read"`
}

// nothing matches the empty name only, which the broker gives to nothing that is asked for.
const (
	everything = ".*"
	nothing    = "^$"
)

func putPermissions(vhost, user string, readOnly bool) request {
	p := permissions{Configure: everything, Write: everything, Read: everything}
	if readOnly {
		p.Configure, p.Write = nothing, nothing
	}
	return put(p, "permissions", vhost, user)
}

func deletePermissions(vhost, user string) request { return remove("permissions", vhost, user) }

// value is a limit's.
type value struct {
	Value int `json:"value"`
}

const (
	limitConnections = "max-connections"
	limitChannels    = "max-channels"
	limitQueues      = "max-queues"
)

func putUserLimit(user, limit string, n int) request {
	return put(value{n}, "user-limits", user, limit)
}

func putVhostLimit(vhost, limit string, n int) request {
	return put(value{n}, "vhost-limits", vhost, limit)
}

func deleteVhostLimit(vhost, limit string) request { return remove("vhost-limits", vhost, limit) }

func putVhost(name string) request {
	return put(struct {
		Description string `json:"description"`
	}{"Made by Bindery"}, "vhosts", name)
}

// predeclared are the exchanges that every vhost has from its beginning.
var predeclared = []string{"amq.direct", "amq.topic", "amq.match", "amq.headers", "amq.fanout", "amq.rabbitmq.trace"}

func listExchanges(vhost string) request { return get("columns=name", "exchanges", vhost) }

func getVhost(name string) request { return get("columns=name,cluster_state", "vhosts", name) }

// running is the state of a vhost on a node that serves it.
const running = "running"

func startVhost(name, node string) request {
	return request{method: http.MethodPost, path: path("vhosts", name, "start", node)}
}

func deleteVhost(name string) request { return remove("vhosts", name) }

// The connections of a user are asked for in the way that looks them up where the
// broker counts them. /api/connections asks the statistics, which are seconds late.
func listConnections(user string) request {
	return get("columns=name", "connections", "username", user)
}

func closeConnections(user string) request { return remove("connections", "username", user) }

// listListeners asks for the node that answers, and for the nodes of all listeners.
func listListeners() request { return get("columns=node,listeners.node", "overview") }

func whoami() request   { return get("", "whoami") }
func overview() request { return get("columns=rabbitmq_version,management_version", "overview") }
