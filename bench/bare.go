package main

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
	goredis "github.com/redis/go-redis/v9"

	"bindery/devserver"
)

// barePostgres makes roles with one statement each.
type barePostgres struct {
	server   *devserver.Postgres
	verifier bool // it derives what the server keeps, as Bindery does; otherwise the server has to
	conns    []*pgconn.PgConn
}

func (p *barePostgres) name() string {
	if p.verifier {
		return "CREATE ROLE with a verifier, DROP ROLE"
	}
	return "CREATE ROLE with a plain password, DROP ROLE"
}

func (p *barePostgres) connect(ctx context.Context, clients int) error {
	for range clients {
		c, err := pgconn.Connect(ctx, p.server.URL(p.server.Database).Reveal())
		if err != nil {
			return err
		}
		p.conns = append(p.conns, c)
	}
	return nil
}

func (p *barePostgres) disconnect() {
	for _, c := range p.conns {
		_ = c.Close(context.Background()) // everything was answered
	}
	p.conns = nil
}

func (p *barePostgres) create(ctx context.Context, client int, serial int64) error {
	password := newPassword()
	if p.verifier {
		var err error
		if password, err = scramVerifier(password); err != nil {
			return err
		}
	}
	return p.exec(ctx, client, "CREATE ROLE bare_"+strconv.FormatInt(serial, 10)+" LOGIN PASSWORD '"+password+"'")
}

// fill makes a role for which nothing is hashed.
func (p *barePostgres) fill(ctx context.Context, client int, serial int64) error {
	return p.exec(ctx, client, "CREATE ROLE bare_"+strconv.FormatInt(serial, 10)+" LOGIN")
}

func (p *barePostgres) remove(ctx context.Context, client int, serial int64) error {
	return p.exec(ctx, client, "DROP ROLE bare_"+strconv.FormatInt(serial, 10))
}

func (p *barePostgres) exec(ctx context.Context, client int, sql string) error {
	_, err := p.conns[client].Exec(ctx, sql).ReadAll()
	return err
}

// newPassword makes 43 characters out of [A-Za-z0-9_-].
func newPassword() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// scramVerifier derives what PostgreSQL keeps of a password (RFC 5802), as the
// driver does. It is written again here: what is measured must not be what is
// compared with.
func scramVerifier(password string) (string, error) {
	const iterations = 4096 // PostgreSQL's own
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	salted, err := pbkdf2.Key(sha256.New, password, salt[:], iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	sign := func(message string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(message))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sign("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt[:]), b64(stored[:]), b64(sign("Server Key"))), nil
}

// bareRedis makes users with one statement each.
type bareRedis struct {
	server *devserver.Redis
	rules  []any // the commands that a user may send
	client *goredis.Client
}

func (*bareRedis) name() string { return "ACL SETUSER, ACL DELUSER" }

func (r *bareRedis) connect(_ context.Context, clients int) error {
	r.client = goredis.NewClient(&goredis.Options{
		Addr: r.server.Addr, Username: r.server.User, Password: r.server.Password.Reveal(), Protocol: 2, PoolSize: clients,
	})
	return nil
}

func (r *bareRedis) disconnect() { _ = r.client.Close() } // everything was answered

func (r *bareRedis) create(ctx context.Context, _ int, serial int64) error {
	args := append(make([]any, 0, 9+len(r.rules)), "ACL", "SETUSER", bareUser(serial), "reset", "resetchannels", "on",
		fmt.Sprintf("#%x", sha256.Sum256([]byte(newPassword()))), "~bdy_bench1_1:*", "&bdy_bench1_1:*")
	return r.client.Do(ctx, append(args, r.rules...)...).Err()
}

func (r *bareRedis) remove(ctx context.Context, _ int, serial int64) error {
	return r.client.Do(ctx, "ACL", "DELUSER", bareUser(serial)).Err()
}

func bareUser(serial int64) string { return "bare_" + strconv.FormatInt(serial, 10) }
