package redis_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"bindery"
)

// trespass tries the ways to another instance's keys that Redis has or had, and
// to what is everybody's.
func trespass(t *testing.T, ctx context.Context, mine, theirs bindery.Credential, key string) error {
	t.Helper()
	s, err := connect(ctx, mine)
	if err != nil {
		t.Fatalf("login: %v", err)
	}
	defer func() { _ = s.Close() }() // commands were refused, it has nothing to lose
	own, _ := mine.Object["prefix"].(string)
	other, _ := theirs.Object["prefix"].(string)
	if err := s.conn.RPush(ctx, own+"list", key).Err(); err != nil {
		t.Fatalf("write a list: %v", err)
	}
	for _, args := range trespasses(own, other, key) {
		err := s.conn.Do(ctx, args...).Err()
		if err == nil || errors.Is(err, goredis.Nil) {
			t.Errorf("%v went through", args)
			return nil
		}
		if !refusedForRights(err) {
			t.Errorf("%v failed, but not for lack of rights: %v", args, err)
		}
	}
	return errors.New("every attempt was refused")
}

// refusedForRights tells refusals from commands that failed for another reason,
// which would prove nothing. A command that the server does not have counts.
func refusedForRights(err error) bool {
	text := err.Error()
	for _, sign := range []string{
		"NOPERM ", "unknown command", "Unknown Redis command", "Unknown subcommand", "unknown subcommand",
		"ACL failure in script", "insufficient ACL permissions", "The user executing the script can't", "No permissions to access",
	} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

func trespasses(own, other, key string) [][]any {
	target, list := other+key, own+"list"
	return [][]any{
		{"GET", target},
		{"SET", target, "x"},
		{"DEL", target},
		{"TYPE", target},
		{"EXISTS", target},
		{"DUMP", target},
		{"RENAME", list, target},
		{"MGET", list, target},
		{"OBJECT", "ENCODING", target},
		{"MEMORY", "USAGE", target},
		{"WATCH", target},
		{"LCS", list, target},
		{"STRALGO", "LCS", "KEYS", list, target},
		{"COPY", target, own + "copy"},
		{"COPY", list, target},
		{"MOVE", target, "1"},
		{"SORT", list, "BY", "nosort", "GET", other + "*"},
		{"SORT", list, "BY", "nosort", "STORE", target},
		{"SORT_RO", list, "BY", other + "*"},
		{"BITOP", "AND", own + "b", target},
		{"GEORADIUS", own + "geo", 0, 0, 1, "m", "STORE", target},
		{"XREAD", "STREAMS", target, "0"},
		{"ZUNIONSTORE", own + "z", 2, list, target},
		{"SINTER", own + "s", target},
		{"LMOVE", target, list, "LEFT", "LEFT"},
		{"EVAL", "return redis.call('GET', KEYS[1])", 1, target},
		{"EVAL", "return redis.call('GET', ARGV[1])", 0, target},
		{"EVAL_RO", "return redis.call('GET', ARGV[1])", 0, target},
		{"EVAL", "return redis.call('KEYS', '*')", 0},
		{"EVAL", "return redis.call('PUBLISH', ARGV[1], 'x')", 0, other + "channel"},
		{"SUBSCRIBE", other + "channel"},
		{"PSUBSCRIBE", "*"},
		{"PSUBSCRIBE", other + "*"},
		{"SSUBSCRIBE", other + "c"},
		{"PUBLISH", other + "channel", "x"},
		{"SPUBLISH", other + "c", "x"},
		{"SUBSCRIBE", "__keyevent@0__:set"},
		{"SCAN", 0},
		{"KEYS", "*"},
		{"RANDOMKEY"},
		{"DBSIZE"},
		{"INFO"},
		{"SWAPDB", 0, 1},
		{"FLUSHALL"},
		{"FLUSHDB"},
		{"MONITOR"},
		{"CONFIG", "GET", "*"},
		{"SHUTDOWN", "NOSAVE"},
		{"ACL", "LIST"},
		{"ACL", "USERS"},
		{"ACL", "WHOAMI"},
		{"ACL", "SETUSER", "x"},
		{"ACL", "LOG"},
		{"ACL", "DRYRUN", "x", "get"},
		{"CLIENT", "LIST"},
		{"CLIENT", "KILL", "ID", 1},
		{"CLIENT", "PAUSE", 0},
		{"CLIENT", "UNBLOCK", 1},
		{"CLIENT", "TRACKING", "ON", "BCAST"},
		{"CLIENT", "TRACKINGINFO"},
		{"CLIENT", "NO-EVICT", "on"},
		{"SCRIPT", "FLUSH"},
		{"SCRIPT", "KILL"},
		{"SCRIPT", "DEBUG", "YES"},
		{"FUNCTION", "LIST"},
		{"FUNCTION", "FLUSH"},
		{"FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)"},
		{"FCALL", "f", 0},
		{"PUBSUB", "CHANNELS"},
		{"PUBSUB", "NUMPAT"},
		{"SLOWLOG", "GET"},
		{"LATENCY", "RESET"},
		{"MEMORY", "STATS"},
		{"MODULE", "LIST"},
		{"CLUSTER", "INFO"},
		{"ROLE"},
		{"REPLICAOF", "NO", "ONE"},
		{"FAILOVER"},
		{"SAVE"},
		{"BGSAVE"},
		{"BGREWRITEAOF"},
		{"LASTSAVE"},
		{"SYNC"},
		{"PSYNC", "?", -1},
		{"REPLCONF", "x", "y"},
		{"RESTORE", own + "r", 0, "x"},
		{"MIGRATE", "127.0.0.1", 1, list, 0, 1},
		{"PFDEBUG", "ENCODING", list},
	}
}
