package mysql_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"bindery"
	"bindery/devserver"
	"bindery/devserver/servertest"
	"bindery/driver/mysql"
)

// In a grant, _ stands for any character: unescaped, one instance's binding would
// reach another's database.
func TestGrantsHaveNoWildcards(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedMySQL(t))
	spec := l.instance(`{}`)
	alike := strings.ReplaceAll(spec.Name, "_", "x")
	super := l.super()
	l.do(super, "CREATE DATABASE "+alike)
	t.Cleanup(func() {
		if err := super.do(context.Background(), "DROP DATABASE "+alike); err != nil {
			t.Error(err)
		}
	})
	for _, access := range []string{`{}`, `{"access":"read-only"}`} {
		s := l.client(spec, l.bind(spec, access))
		if err := s.do(t.Context(), "USE "+alike); number(err) != 1044 {
			t.Errorf("%s: use %s: got %v, want that it is denied", access, alike, err)
		}
	}
}

// Account statements are several, and a crash can come after each: what a half of
// one leaves is in nobody's way.
func TestHalves(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.MySQL(t))
	spec := l.instance(`{}`)
	super := l.super()
	for what, broken := range map[string]string{
		"rights without an account":  `DELETE FROM ` + l.either(`mysql.global_priv`, `mysql.user`) + ` WHERE User = '%s'`,
		"an account without rights":  `DELETE FROM mysql.db WHERE User = '%s'`,
		"an account with other ones": `UPDATE mysql.db SET Select_priv = 'N', Create_priv = 'N' WHERE User = '%s'`,
	} {
		for _, name := range []string{spec.Name, ""} {
			account := l.bind(spec, ``)
			if name == "" {
				name = account.Name
			}
			l.do(super, strings.ReplaceAll(broken, "%s", name), `FLUSH PRIVILEGES`)
			l.must(what+": provision", l.driver.Provision(t.Context(), spec))
			_, err := l.driver.Ensure(t.Context(), spec, account)
			l.must(what+": ensure", err)
			l.do(l.client(spec, account), `CREATE TABLE IF NOT EXISTS t (v INT)`)
			l.do(super, strings.ReplaceAll(broken, "%s", name), `FLUSH PRIVILEGES`)
			l.must(what+": revoke", l.driver.Revoke(t.Context(), spec, account))
			if n := l.count(`SELECT (SELECT COUNT(*) FROM mysql.db WHERE User = ?1) + (SELECT COUNT(*) FROM mysql.user WHERE User = ?1)`[:0]+
				`SELECT COUNT(*) FROM (SELECT User FROM mysql.db UNION ALL SELECT User FROM mysql.user) a WHERE User = ?`, account.Name); n != 0 {
				t.Errorf("%s: %d rows are left", what, n)
			}
		}
	}
}

// What a server confirmed to be dropped stays so when it is killed right after.
func TestDropIsDurable(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.MySQL(t, func(o *devserver.MySQLOptions) { o.NoFsync = false }))
	spec := l.instance(`{}`)
	for range 10 {
		gone, stays := l.bind(spec, ``), l.bind(spec, ``)
		l.must("revoke", l.driver.Revoke(t.Context(), spec, gone))
		l.must("kill", l.m.Kill())
		l.must("start", l.m.Start(t.Context()))
		if _, err := l.login(spec, gone); !isAuthFailure(err) {
			t.Fatalf("log in: got %v, want that it is refused", err)
		}
		l.client(spec, stays)
	}
}

// A login that has begun before the account is dropped, and would end after that,
// ends there: the server looks an account up before it waits for the proof.
func TestLoginUnderWay(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedMySQL(t))
	spec := l.instance(`{}`)
	account, other := l.bind(spec, ``), l.bind(spec, ``)
	c := l.credential(spec, account)
	conn, scramble := beginLogin(t, l.m.Addr, c.Object["username"].(string))
	// Without the revocation this goes through.
	conn2, scramble2 := beginLogin(t, l.m.Addr, l.credential(spec, other).Object["username"].(string))
	if answer := endLogin(t, conn2, l.m.MariaDB, scramble2, l.credential(spec, other).Object["password"].(string)); answer != 0 {
		t.Fatalf("an undisturbed login: got %#x, want OK", answer)
	}
	l.revoke(spec, account)
	if answer := endLogin(t, conn, l.m.MariaDB, scramble, c.Object["password"].(string)); answer == 0 {
		t.Fatal("the login went through after the account was gone")
	}
}

// beginLogin says the user's name, and asks for a plugin that the account does
// not have, so that the server asks again (Connection Phase, AuthSwitchRequest).
func beginLogin(t *testing.T, address, user string) (net.Conn, []byte) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may have
	if err := conn.SetDeadline(time.Now().Add(labTimeout)); err != nil {
		t.Fatal(err)
	}
	readPacket(t, conn) // its greeting
	const protocol41, secure, plugins = 0x200, 0x8000, 0x80000
	response := binary.LittleEndian.AppendUint32(nil, protocol41|secure|plugins)
	response = binary.LittleEndian.AppendUint32(response, 1<<24)
	response = append(response, 45) // utf8mb4
	response = append(response, make([]byte, 23)...)
	response = append(append(response, user...), 0, 0) // and no proof yet
	response = append(append(response, "mysql_clear_password"...), 0)
	writePacket(t, conn, 1, response)
	request := readPacket(t, conn)
	if len(request) == 0 || request[0] != 0xfe {
		t.Fatalf("got %q, want to be asked for another plugin", request)
	}
	_, scramble, _ := strings.Cut(string(request), "\x00")
	return conn, []byte(strings.TrimSuffix(scramble, "\x00"))
}

// endLogin proves the password as mysql_native_password does (SHA-1) or, to MySQL,
// caching_sha2_password, and returns the first byte of the answer.
func endLogin(t *testing.T, conn net.Conn, mariadb bool, scramble []byte, password string) byte {
	t.Helper()
	once := sha1.Sum([]byte(password))
	twice := sha1.Sum(once[:])
	mask := sha1.Sum(append(scramble[:20:20], twice[:]...))
	proof := xor(mask[:], once[:])
	if !mariadb {
		proof = make([]byte, 32) // of a password that was proven before: none was
	}
	writePacket(t, conn, 3, proof)
	answer := readPacket(t, conn)
	if !mariadb && len(answer) == 2 && answer[1] == 4 { // it wants to see the password
		writePacket(t, conn, 5, []byte{2})
		key, _ := pem.Decode(readPacket(t, conn)[1:])
		public, err := x509.ParsePKIXPublicKey(key.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		secret := append([]byte(password), 0)
		secret = xor(secret, bytes.Repeat(scramble[:20], 1+len(secret)/20)[:len(secret)])
		sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), secret, nil)
		if err != nil {
			t.Fatal(err)
		}
		writePacket(t, conn, 7, sealed)
		answer = readPacket(t, conn)
	}
	if len(answer) == 0 {
		return 0xff // closed
	}
	return answer[0]
}

func xor(a, b []byte) []byte {
	out := make([]byte, len(a))
	subtle.XORBytes(out, a, b)
	return out
}

func writePacket(t *testing.T, conn net.Conn, sequence byte, payload []byte) {
	t.Helper()
	n := len(payload)
	_, _ = conn.Write(append([]byte{byte(n), byte(n >> 8), byte(n >> 16), sequence}, payload...)) // an end is read
}

// readPacket returns nothing where the server has hung up.
func readPacket(t *testing.T, conn net.Conn) []byte {
	t.Helper()
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
			t.Fatal(err)
		}
		return nil
	}
	payload := make([]byte, int(head[0])|int(head[1])<<8|int(head[2])<<16)
	if _, err := io.ReadFull(conn, payload); err != nil {
		return nil
	}
	return payload
}

// A ping says what would let others in.
func TestPingFindsHoles(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.MySQL(t))
	super := l.super()
	ping := l.driver.(bindery.Pinger)
	l.must("ping", ping.Ping(t.Context()))
	for _, hole := range [][2]string{
		{`CREATE USER ''@'localhost'`, `DROP USER ''@'localhost'`},
		{
			l.either(`GRANT SELECT ON test.* TO PUBLIC`, `SET GLOBAL mandatory_roles = 'everybody'`),
			l.either(`REVOKE SELECT ON test.* FROM PUBLIC`, `SET GLOBAL mandatory_roles = ''`),
		},
		{
			l.either(`REVOKE CONNECTION ADMIN ON *.* FROM bindery`, `REVOKE CONNECTION_ADMIN ON *.* FROM bindery`),
			l.either(`GRANT CONNECTION ADMIN ON *.* TO bindery`, `GRANT CONNECTION_ADMIN ON *.* TO bindery`),
		},
		{"REVOKE GRANT OPTION ON `bdy\\_%`.* FROM bindery", "GRANT USAGE ON `bdy\\_%`.* TO bindery WITH GRANT OPTION"},
	} {
		l.do(super, hole[0])
		l.wantCode(hole[0], ping.Ping(t.Context()), bindery.CodeUnavailable)
		l.do(super, hole[1])
		l.must(hole[1], ping.Ping(t.Context()))
	}
}

// A tenant can take named locks, too, and keep nobody out with them.
func TestTakenLocks(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedMySQL(t))
	spec := l.instance(`{}`)
	s := l.client(spec, l.bind(spec, ``))
	for i := range 256 {
		l.do(s, `DO GET_LOCK('bindery `+l.installation+` `+strconv.Itoa(i)+`', 0)`)
	}
	for range 20 { // of which only the idle connections of before may be left
		l.must("close", l.driver.Close())
		l.driver = openDriver(t, serverOf(l.m, l.installation, labTimeout))
		err := l.driver.Provision(t.Context(), spec)
		if err == nil {
			return
		}
		l.wantCode("provision", err, bindery.CodeUnavailable)
	}
	t.Error("a tenant's locks keep Bindery out")
}

// Where the server has TLS, nobody logs in without.
func TestTLSIsRequired(t *testing.T) {
	t.Parallel()
	pki, err := devserver.OpenPKI(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pki.Server()
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, servertest.MySQL(t, func(o *devserver.MySQLOptions) { o.TLS = &certificate }))
	server := serverOf(l.m, l.installation, labTimeout)
	ca, err := os.ReadFile(pki.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	server.TLS = &bindery.ServerTLS{CAFile: pki.CAFile()}
	server.Public = bindery.PublicAddress{TLS: true, CA: string(ca)}
	l.driver = openDriver(t, server)
	l.must("ping", l.driver.(bindery.Pinger).Ping(t.Context()))
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	if _, err := l.login(spec, account); !isAuthFailure(err) {
		t.Errorf("log in without TLS: got %v, want that it is refused", err)
	}
	c := l.credential(spec, account)
	if c.Object["ca.crt"] != string(ca) || !strings.Contains(c.Object["uri"].(string), "ssl-mode=REQUIRED") {
		t.Error("the credential does not say that TLS is needed")
	}
	// Prove logs in as an application does: it gets in.
	if _, err := l.driver.(bindery.Prover).Prove(t.Context(), spec, account); !errors.Is(err, bindery.ErrAlive) {
		t.Errorf("prove: got %v, want %v", err, bindery.ErrAlive)
	}
	l.revoke(spec, account)
	_, err = l.driver.(bindery.Prover).Prove(t.Context(), spec, account)
	l.must("prove", err)

	plain := newLab(t, servertest.SharedMySQL(t))
	server = serverOf(plain.m, plain.installation, labTimeout)
	server.Public.TLS = true
	plain.wantCode("ping of a server without TLS", openDriver(t, server).(bindery.Pinger).Ping(t.Context()), bindery.CodeUnavailable)
}

// A limit is the server's, and a changed plan's is the lower one.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedMySQL(t))
	spec := l.instance(`{"max_connection_limit":2}`)
	account := l.bind(spec, `{"connection_limit":1}`)
	l.client(spec, account)
	if _, err := l.login(spec, account); number(err) != 1226 {
		t.Errorf("a second session: got %v, want that it is one too many", err)
	}
	_, err := l.driver.Prepare(spec, bindery.AccountRequest{Name: l.name(), Parameters: []byte(`{"connection_limit":3}`)})
	l.wantCode("more than the plan allows", err, bindery.CodeInvalid)
	account = l.bind(spec, ``)
	l.client(spec, account)
	l.client(spec, account)
	if _, err := l.login(spec, account); number(err) != 1226 {
		t.Errorf("a third session: got %v, want that it is one too many", err)
	}
}

// No log of the server has a password.
func TestPasswordsAreNotLogged(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.MySQL(t, func(o *devserver.MySQLOptions) {
		o.Settings = append(o.Settings, "general-log", "general-log-file = all.log", "log-bin = binlog", "binlog-format = STATEMENT")
	}))
	spec := l.instance(`{}`)
	account := l.bind(spec, ``)
	l.client(spec, account)
	_, err := l.driver.Ensure(t.Context(), spec, account)
	l.must("ensure", err)
	logs, err := filepath.Glob(filepath.Join(l.m.Dir(), "data", "*log*"))
	l.must("list", err)
	found := false
	for _, log := range logs {
		content, err := os.ReadFile(log)
		if err != nil {
			continue // a directory
		}
		found = found || strings.Contains(string(content), "CREATE USER '"+account.Name)
		if strings.Contains(string(content), l.credential(spec, account).Object["password"].(string)) {
			t.Errorf("%s has the password", filepath.Base(log))
		}
	}
	if !found {
		t.Error("no log has the account: this test looks at the wrong place")
	}
}

// MySQL's user names have 32 characters at the most.
func TestNamesFit(t *testing.T) {
	t.Parallel()
	if name := bindery.Name("abcdef", 1<<63-1); len(name) > 32 {
		t.Errorf("%q has %d characters", name, len(name))
	}
}

// A read-only binding writes nothing, in no way, and executes nothing that could.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedMySQL(t))
	spec := l.instance(`{}`)
	writer := l.client(spec, l.bind(spec, ``))
	l.do(writer, `CREATE TABLE t (v INT)`, `CREATE VIEW v AS SELECT v FROM t`, `CREATE PROCEDURE p() INSERT INTO t VALUES (1)`)
	reader := l.client(spec, l.bind(spec, `{"access":"read-only"}`))
	l.text(reader, `SELECT COUNT(*) FROM v`)
	for _, sql := range []string{
		`CALL p()`, `INSERT INTO v VALUES (1)`, `CREATE TABLE u (v INT)`, `CREATE TEMPORARY TABLE u (v INT)`, `LOCK TABLES t READ`,
		`CREATE VIEW w AS SELECT 1`, `DROP DATABASE ` + spec.Name, `GRANT SELECT ON ` + spec.Name + `.* TO PUBLIC`,
		`SELECT v FROM t INTO OUTFILE 'x'`, `CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO DO 1`,
	} {
		if err := reader.do(t.Context(), sql); number(err) == 0 {
			t.Errorf("%s: got %v, want that it is denied", sql, err)
		}
	}
	// Nor does a binding that writes pass anything on, or look elsewhere.
	for _, sql := range []string{
		`GRANT SELECT ON ` + spec.Name + `.* TO PUBLIC`, `CREATE USER x`, `CREATE DATABASE bdy_x`, `SELECT * FROM mysql.user`,
		`CREATE DEFINER = 'root'@'127.0.0.1' VIEW w AS SELECT 1`, `SET GLOBAL general_log = 1`, `LOAD DATA INFILE 'x' INTO TABLE t`,
	} {
		if err := writer.do(t.Context(), sql); number(err) == 0 {
			t.Errorf("%s: got %v, want that it is denied", sql, err)
		}
	}
}

// A server that takes no changes, a replica, is unavailable, and says so without its own words.
func TestReadOnlyServer(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.MySQL(t))
	spec := l.instance(`{}`)
	super := l.super()
	l.do(super, `SET GLOBAL read_only = 1`)
	account := bindery.Account{Name: l.name()}
	var err error
	account.Material, err = l.driver.Prepare(spec, bindery.AccountRequest{Name: account.Name})
	l.must("prepare", err)
	_, err = l.driver.Ensure(t.Context(), spec, account)
	l.wantCode("ensure", err, bindery.CodeUnavailable)
	l.wantCode("provision", l.driver.Provision(t.Context(), bindery.InstanceSpec{Name: l.name()}), bindery.CodeUnavailable)
	l.do(super, `SET GLOBAL read_only = 0`)
	_, err = l.driver.Ensure(t.Context(), spec, account)
	l.must("ensure", err)
	l.client(spec, account)
}

// A plan can ask for what a server does not have: that is nobody's to try again.
func TestUnknownCharacterSet(t *testing.T) {
	t.Parallel()
	l := newLab(t, servertest.SharedMySQL(t))
	for _, settings := range []string{`{"character_set":"klingon"}`, `{"collation":"klingon_ci"}`, `{"character_set":"latin1","collation":"utf8mb4_bin"}`} {
		err := l.driver.Provision(t.Context(), bindery.InstanceSpec{Name: l.name(), Settings: []byte(settings)})
		l.wantCode(settings, err, bindery.CodeUnsupported)
	}
	for _, settings := range []string{`{"character_set":""}`, `{"collation":"x'y"}`, `{"max_connection_limit":-1}`, `{"extensions":[]}`, `[]`} {
		if mysql.Kind.CheckPlan([]byte(settings)) == nil {
			t.Errorf("plan settings %s: no error", settings)
		}
	}
	for _, settings := range []string{`{"max_connections":0}`, `{"max_connections":101}`, `{"database":"x"}`} {
		if mysql.Kind.CheckServer([]byte(settings)) == nil {
			t.Errorf("server settings %s: no error", settings)
		}
	}
}
