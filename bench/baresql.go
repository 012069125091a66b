package main

import (
	"context"
	"crypto/sha1"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"

	"bindery/devserver"
)

// bareMySQL makes users with two statements each, which travel together.
type bareMySQL struct {
	server *devserver.MySQL
	db     *sql.DB
	conns  []*sql.Conn
}

func (*bareMySQL) name() string { return "CREATE USER and GRANT, DROP USER" }

func (m *bareMySQL) connect(ctx context.Context, clients int) error {
	c := mysql.NewConfig()
	c.Net, c.Addr, c.User, c.Passwd = "tcp", m.server.Addr, m.server.Superuser, m.server.SuperPassword.Reveal()
	c.MultiStatements = true
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	m.db = sql.OpenDB(connector)
	for range clients {
		one, err := m.db.Conn(ctx)
		if err != nil {
			return err
		}
		m.conns = append(m.conns, one)
	}
	_, err = m.db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS bare")
	return err
}

func (m *bareMySQL) disconnect() {
	for _, c := range m.conns {
		_ = c.Close() // everything was answered
	}
	if m.db != nil {
		_ = m.db.Close()
	}
	m.conns, m.db = nil, nil
}

func (m *bareMySQL) create(ctx context.Context, client int, serial int64) error {
	user := "'" + bareUser(serial) + "'@'%'"
	_, err := m.conns[client].ExecContext(ctx, "CREATE USER "+user+" IDENTIFIED VIA mysql_native_password USING '"+nativeHash(newPassword())+
		"'; GRANT ALL PRIVILEGES ON bare.* TO "+user)
	return err
}

func (m *bareMySQL) remove(ctx context.Context, client int, serial int64) error {
	_, err := m.conns[client].ExecContext(ctx, "DROP USER '"+bareUser(serial)+"'@'%'")
	return err
}

// nativeHash is what mysql_native_password keeps of a password, as the driver makes it.
func nativeHash(password string) string {
	once := sha1.Sum([]byte(password))
	twice := sha1.Sum(once[:])
	return "*" + strings.ToUpper(hex.EncodeToString(twice[:]))
}

// bareStore is what a kind without a server cannot do without: transactions on
// an SQLite file that flush as the store does. Those that wait while one commits
// are committed together, as there: otherwise the bare one would be the slower.
type bareStore struct {
	path         string
	transactions int // for each call
	db           *sql.DB
	waiting      chan change
	done         chan struct{} // closed when nothing more is written
}

// A change is a statement in a transaction.
type change struct {
	statement string
	args      []any
	answer    chan error
}

func (b *bench) bareStore(k *kind, transactions int) *bareStore {
	return &bareStore{path: b.directory(k.name) + ".db", transactions: transactions}
}

func (s *bareStore) name() string { return fmt.Sprintf("%d transactions", s.transactions) }

func (s *bareStore) connect(ctx context.Context, clients int) (err error) {
	s.db, err = sql.Open("sqlite", "file:"+s.path+"?_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return err
	}
	s.db.SetMaxOpenConns(1)
	if _, err = s.db.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS bare (id INTEGER PRIMARY KEY, state INTEGER NOT NULL, text TEXT NOT NULL)"); err != nil {
		return err
	}
	s.waiting, s.done = make(chan change, clients), make(chan struct{})
	go s.write(ctx)
	return nil
}

func (s *bareStore) disconnect() {
	if s.db == nil {
		return
	}
	if s.waiting != nil {
		close(s.waiting)
		<-s.done
	}
	_ = s.db.Close() // everything was committed
	s.db, s.waiting = nil, nil
}

// write commits what waits, until nothing more comes. Every caller gets the error.
func (s *bareStore) write(ctx context.Context) {
	defer close(s.done)
	prepared := map[string]*sql.Stmt{} // as the store has them; closed with the database
	commit := func(all []change) error {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for _, c := range all {
			if _, err := tx.StmtContext(ctx, prepared[c.statement]).ExecContext(ctx, c.args...); err != nil { //nolint:sqlclosecheck // closed with the transaction
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}
	for c := range s.waiting {
		all := []change{c}
		for len(s.waiting) > 0 {
			all = append(all, <-s.waiting)
		}
		var err error
		for _, c := range all {
			if prepared[c.statement] == nil && err == nil {
				prepared[c.statement], err = s.db.PrepareContext(ctx, c.statement) //nolint:sqlclosecheck // closed with the database
			}
		}
		if err == nil {
			err = commit(all)
		}
		for _, c := range all {
			c.answer <- err
		}
	}
}

// change waits until a statement is committed.
func (s *bareStore) change(statement string, args ...any) error {
	c := change{statement, args, make(chan error, 1)}
	s.waiting <- c
	return <-c.answer
}

// The statements. State 1 is ready, 2 is removed.
const (
	bareInsert = "INSERT INTO bare (id, state, text) VALUES (?, 0, ?)"
	bareUpdate = "UPDATE bare SET state = ? WHERE id = ?"
)

func (s *bareStore) create(_ context.Context, _ int, serial int64) error {
	if err := s.change(bareInsert, serial, newPassword()); err != nil || s.transactions == 1 {
		return err
	}
	return s.change(bareUpdate, 1, serial)
}

func (s *bareStore) remove(_ context.Context, _ int, serial int64) error {
	for n := range s.transactions {
		if err := s.change(bareUpdate, 2+n, serial); err != nil {
			return err
		}
	}
	return nil
}
