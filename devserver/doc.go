// Package devserver starts real servers privately: a redis-server, a
// PostgreSQL or an OpenID provider of its own on a free port of 127.0.0.1,
// protected by a random password, with all its files in one directory. `bindery dev`, the tests and
// the benchmarks use it, so none of them needs anything but the programs to be
// installed, and none disturbs a server that is already there.
//
// # A server's life
//
//	StartRedis ──► running ──Pause──► paused
//	StartPostgres    │ ▲ ◄──Resume──────┘
//	StartOIDC        │ └──Start───┐
//	                 └─Stop/Kill─► stopped ──Remove──► gone
//
// A start waits for either a login that works or the end of the process, and
// fails with the process's own output. Start again uses the same port, the same
// passwords and the same files, also from another process later on.
//
// No server outlives its purpose: it is told to end when the process that
// started it dies, however that happens; and what should be left behind all the
// same is ended before the next start in the same directory. Such leftovers are
// recognised by what they run and by the directory that they run in, never by a
// process id alone, which could belong to somebody else by now. A directory
// belongs to one process at a time.
//
// # Where files are when root starts PostgreSQL
//
// PostgreSQL refuses to run as root, so it then runs as the user postgres (or
// nobody, where there is none). Where that user cannot reach the given
// directory, as below /root or in a test's temporary directory, the data is kept
// under /var/lib/bindery-devserver, and a symbolic link named data points there;
// [Process.Remove] removes both. In the same way programs that it cannot reach
// are copied to /var/cache/bindery-devserver. That directory (for other users,
// bindery-devserver in their cache directory) also keeps one empty database
// cluster for each version, because copying it is several times faster than initdb.
package devserver

//go:generate cp ../driver/postgres/setup.sql postgres-setup.sql
//go:generate cp ../driver/rabbitmq/setup.json rabbitmq-setup.json
