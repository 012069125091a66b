package redis

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The commands that accounts may send. A command is here because it keeps to
// the keys and channels that it names, or touches nothing but its connection.
// What is missing is missing on purpose where it
//
//   - lists or counts what others have: SCAN, KEYS, RANDOMKEY, DBSIZE, INFO, PUBSUB, CLIENT LIST;
//   - listens to others: MONITOR, CLIENT TRACKING, SLOWLOG;
//   - changes what is everybody's: FLUSHALL, FLUSHDB, FUNCTION, SCRIPT FLUSH, SCRIPT KILL, CONFIG, SWAPDB;
//   - hands the server data that it trusts: RESTORE.
var (
	readCommands = fields(`
		exists type ttl pttl expiretime pexpiretime touch dump object memory|usage
		get getrange substr strlen mget lcs getbit bitcount bitpos bitfield_ro digest
		hget hmget hgetall hkeys hvals hlen hexists hstrlen hscan hrandfield
		httl hpttl hexpiretime hpexpiretime
		lindex llen lrange lpos
		scard sismember smismember smembers srandmember sscan sinter sintercard sunion sdiff
		zcard zcount zlexcount zrange zrangebylex zrangebyscore zrevrange zrevrangebylex
		zrevrangebyscore zrank zrevrank zscore zmscore zscan zrandmember
		zinter zintercard zunion zdiff
		geodist geohash geopos geosearch georadius_ro georadiusbymember_ro
		pfcount xlen xrange xrevrange xread xpending xinfo sort_ro
		subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe`)

	writeCommands = fields(`
		del unlink expire expireat pexpire pexpireat persist rename renamenx copy move delex delifeq
		set setnx setex psetex setrange append getset getdel getex mset msetnx msetex
		incr incrby incrbyfloat decr decrby setbit bitop bitfield
		hset hsetnx hmset hdel hincrby hincrbyfloat hgetdel hgetex hsetex
		hexpire hexpireat hpexpire hpexpireat hpersist
		lpush lpushx rpush rpushx lpop rpop lrem lset ltrim linsert lmove rpoplpush lmpop
		blpop brpop blmove brpoplpush blmpop
		sadd srem spop smove sdiffstore sinterstore sunionstore
		zadd zincrby zrem zremrangebylex zremrangebyrank zremrangebyscore zpopmin zpopmax zmpop
		bzpopmin bzpopmax bzmpop zrangestore zdiffstore zinterstore zunionstore
		geoadd geosearchstore georadius georadiusbymember
		pfadd pfmerge
		xadd xdel xdelex xtrim xack xackdel xclaim xautoclaim xgroup xreadgroup xsetid
		sort publish spublish`)

	connectionCommands = fields(`
		auth hello ping echo quit reset select time wait waitaof command
		client|id client|info client|getname client|setname client|setinfo client|reply client|no-touch
		multi exec discard watch unwatch`)

	// A script runs with the rights of whoever calls it. SCRIPT LOAD only fills a
	// cache that EVAL fills as well, and clients use it.
	readScripts  = fields(`eval_ro evalsha_ro script|load script|exists`)
	writeScripts = fields(`eval evalsha`)

	// Who has a database server alone may look at all of it, and empty it, but
	// not lock Bindery out or reach the machine.
	wholeReadCommands = fields(`
		scan keys randomkey dbsize info lastsave role pubsub
		memory|stats memory|doctor client|tracking client|trackinginfo client|caching client|getredir`)
	wholeWriteCommands = fields(`flushdb flushall swapdb`)
	wholeReadScripts   = fields(`fcall_ro function|list function|stats`)
	wholeWriteScripts  = fields(`
		fcall function|load function|delete function|flush function|kill function|dump script|flush script|kill`)
)

func fields(s string) []string { return strings.Fields(s) }

// allCommands is what a server is asked whether it knows.
func allCommands() []string {
	return slices.Concat(readCommands, writeCommands, connectionCommands, readScripts, writeScripts,
		wholeReadCommands, wholeWriteCommands, wholeReadScripts, wholeWriteScripts)
}

// rightsKey is what an account's rights depend on.
type rightsKey struct{ whole, readOnly, scripts bool }

// rights returns the allowed commands for every key, on a server of this
// version that knows the commands named.
func rights(v version, known func(command string) bool) map[rightsKey][]string {
	all := make(map[rightsKey][]string)
	for _, whole := range []bool{false, true} {
		for _, readOnly := range []bool{false, true} {
			for _, scripts := range []bool{false, true} {
				key := rightsKey{whole: whole, readOnly: readOnly, scripts: scripts}
				all[key] = allow(key, v, known)
			}
		}
	}
	return all
}

func allow(key rightsKey, v version, known func(string) bool) []string {
	lists := [][]string{connectionCommands, readCommands}
	if !key.readOnly {
		lists = append(lists, writeCommands)
	}
	if key.whole {
		lists = append(lists, wholeReadCommands)
		if !key.readOnly {
			lists = append(lists, wholeWriteCommands)
		}
	}
	// Up to 6.2.6 a script could plant code that others' scripts then ran
	// (CVE-2022-24735).
	if key.scripts && (key.whole || v.atLeast(6, 2, 7)) {
		lists = append(lists, readScripts)
		if !key.readOnly {
			lists = append(lists, writeScripts)
		}
		if key.whole {
			lists = append(lists, wholeReadScripts)
			if !key.readOnly {
				lists = append(lists, wholeWriteScripts)
			}
		}
	}
	return slices.DeleteFunc(slices.Concat(lists...), func(c string) bool {
		// Before 7.0 the patterns BY and GET reached past the key fence.
		return !known(c) || c == "sort" && !key.whole && !v.atLeast(7, 0, 0)
	})
}

// A version is a server's: major, minor, patch. Valkey tells the version of the
// Redis that it is compatible with.
type version [3]int

func parseVersion(s string) (version, error) {
	var v version
	parts := strings.SplitN(s, ".", len(v)+1)
	if len(parts) < 2 {
		return version{}, fmt.Errorf("the version %q has no minor number", s)
	}
	for i := range min(len(parts), len(v)) {
		n, err := strconv.Atoi(parts[i])
		if err != nil || n < 0 {
			return version{}, fmt.Errorf("the version %q is not made of numbers", s)
		}
		v[i] = n
	}
	return v, nil
}

func (v version) atLeast(major, minor, patch int) bool {
	return slices.Compare(v[:], []int{major, minor, patch}) >= 0
}

func (v version) String() string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }
