package redis

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
)

// Every argument goes over with its length before it, so nothing here is quoted;
// what has a syntax of its own (a rule, a pattern) is built from checked names.

// everything is the prefix of an instance that has a server to itself.
const everything = ""

func deleteUser(name string) []any { return []any{"ACL", "DELUSER", name} }

func getUser(name string) []any { return []any{"ACL", "GETUSER", name} }

func listUsers() []any { return []any{"ACL", "USERS"} }

func listClients() []any { return []any{"CLIENT", "LIST"} }

func saveUsers() []any { return []any{"ACL", "SAVE"} }

// setUser makes a user that may send the commands, to keys and channels that
// begin with prefix. An empty password makes one that cannot log in.
func setUser(name string, password bindery.Secret, prefix string, commands []string) []any {
	// What reset does to channels depends on the server's version and settings.
	args := append(make([]any, 0, 8+len(commands)), "ACL", "SETUSER", name, "reset", "resetchannels")
	if !password.Empty() {
		args = append(args, "on", passwordRule(password))
	}
	args = append(args, "~"+prefix+"*", "&"+prefix+"*")
	for _, c := range commands {
		args = append(args, "+"+c)
	}
	return args
}

// passwordRule names a password by its hash, so that it stands in no statement.
func passwordRule(password bindery.Secret) string {
	sum := sha256.Sum256([]byte(password.Reveal()))
	return "#" + hex.EncodeToString(sum[:])
}

func killConnection(id int64) []any { return []any{"CLIENT", "KILL", "ID", id} }

func selectDatabase(n int) []any { return []any{"SELECT", n} }

// scanStep is how many places of the key space one step looks at. It bounds how
// long a step stops the server: some 0.2 ms.
const scanStep = 1000

func scanKeys(cursor uint64, prefix string) []any {
	return []any{"SCAN", cursor, "MATCH", prefix + "*", "COUNT", scanStep}
}

func unlinkKeys(keys []string) []any {
	args := append(make([]any, 0, 1+len(keys)), "UNLINK")
	for _, k := range keys {
		args = append(args, k)
	}
	return args
}

// flushServer empties a server: keys, cached scripts and functions, not users.
func flushServer(ctx context.Context, p goredis.Pipeliner, v version) {
	p.Do(ctx, "FLUSHALL", "ASYNC")
	p.Do(ctx, "SCRIPT", "FLUSH", "ASYNC")
	if v.atLeast(7, 0, 0) {
		p.Do(ctx, "FUNCTION", "FLUSH", "ASYNC")
	}
}
