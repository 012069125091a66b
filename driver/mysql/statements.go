package mysql

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"bindery"
)

// This file has every statement that Bindery sends, but for those that the
// server itself wrote (see definers.go). FLUSH PRIVILEGES is never among them:
// the account statements change what the server has in memory.

// Hosts of accounts. Applications may come from anywhere. Nobody comes from
// 0.0.0.0, where the definer of an instance is at home; being no name, it is not
// dropped by servers that resolve none.
const (
	anyHost     = "%"
	definerHost = "0.0.0.0"
)

// setSession is what quoting and answers rely on. Without NO_AUTO_CREATE_USER a
// GRANT to an account that is missing makes one without a password (MySQL 8
// never does). Metadata locks are waited for less long than a call lasts.
func setSession(timeout time.Duration) string {
	wait := max(int(timeout/4/time.Second), 1)
	return "SET SESSION sql_mode = CONCAT('STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION' /*M! ,',NO_AUTO_CREATE_USER' */)" +
		fmt.Sprintf(", lock_wait_timeout = %d, innodb_lock_wait_timeout = %d, autocommit = 1", wait, wait)
}

// refuseReadOnly fails on a MySQL that takes no changes, a replica. It takes those of
// accounts that may end others' sessions, unless it is super_read_only as well.
// MariaDB has a privilege of its own for that.
func refuseReadOnly(f flavor) string {
	if f == oracle {
		return "DO IF(@@GLOBAL.read_only, (SELECT 1 UNION ALL SELECT 2), 0); "
	}
	return ""
}

func takeLock(name string) string {
	return "SELECT GET_LOCK(" + literal(name) + ", 0), CONNECTION_ID(), VERSION()"
}

// lockHolders has one row, with the session that holds each lock.
func lockHolders(names []string) string {
	held := make([]string, len(names))
	for i, name := range names {
		held[i] = "IS_USED_LOCK(" + literal(name) + ")"
	}
	return "SELECT " + strings.Join(held, ", ")
}

func killSessions(ids []string) string {
	kills := make([]string, len(ids))
	for i, id := range ids {
		n, _ := strconv.ParseUint(id, 10, 64) // the server's own number
		kills[i] = "KILL CONNECTION " + strconv.FormatUint(n, 10)
	}
	return strings.Join(kills, "; ")
}

// at is an account's name in statements.
func at(name, host string) string { return literal(name) + "@" + literal(host) }

// What accounts may do in their database. Nobody gets GRANT OPTION. A read-only
// account may not execute routines, which do what their definer may.
const (
	allRights  = "ALL PRIVILEGES"
	readRights = "SELECT, SHOW VIEW"
)

// makeInstance is the database and the account that what is stored in it runs
// as: locked, and with a password that nobody knows (servers that check
// passwords refuse an account without one, locked or not).
func makeInstance(f flavor, name string, s planSettings) string {
	collation := ""
	if s.Collation != "" {
		collation = " COLLATE " + literal(s.Collation)
	}
	return "CREATE DATABASE IF NOT EXISTS " + ident(name) + " CHARACTER SET " + literal(s.CharacterSet) + collation + "; " +
		"CREATE USER IF NOT EXISTS " + at(name, definerHost) + identified(f, bindery.NewPassword().Reveal(), newSalt()) + " ACCOUNT LOCK; " +
		grant(allRights, name, name, definerHost)
}

func grant(rights, database, name, host string) string {
	return "GRANT " + rights + " ON " + pattern(database) + ".* TO " + at(name, host)
}

func dropInstance(name string) string {
	return "DROP DATABASE IF EXISTS " + ident(name) + "; " + dropAccount(name, definerHost)
}

// An accountForm is what CREATE USER says of an account.
type accountForm struct {
	name, database, rights string
	password, salt         string
	tls                    bool
	limit                  int // of connections; 0: none
}

// identified says the hash of a password, never the password.
func identified(f flavor, password, salt string) string {
	if f == oracle {
		return fmt.Sprintf(" IDENTIFIED WITH caching_sha2_password AS 0x%X", sha2Hash(password, salt))
	}
	return " IDENTIFIED VIA mysql_native_password USING " + literal(nativeHash(password))
}

func makeAccount(f flavor, a accountForm) string {
	require := "NONE"
	if a.tls {
		require = "SSL"
	}
	return "CREATE USER " + at(a.name, anyHost) + identified(f, a.password, a.salt) + " REQUIRE " + require +
		" WITH MAX_USER_CONNECTIONS " + strconv.Itoa(a.limit) + "; " +
		grant(a.rights, a.database, a.name, anyHost)
}

func dropAccount(name, host string) string { return "DROP USER IF EXISTS " + at(name, host) }

func lockAccount(name string) string {
	return "ALTER USER IF EXISTS " + at(name, anyHost) + " ACCOUNT LOCK"
}

// sessions lists those of an account, also of one that was dropped. On MariaDB
// those are among them that have sent its name and wait for the answer to their
// password: it notes the name before it looks the account up. MySQL notes it
// when all is answered, so there everybody's logins are listed as well, as not
// the account's.
func sessions(f flavor, name string) string {
	users := literal(name)
	if f == oracle {
		users += ", 'unauthenticated user'"
	}
	return "SELECT ID, USER = " + literal(name) + " FROM information_schema.PROCESSLIST WHERE USER IN (" + users + ")"
}

func accountExists(name string) string {
	return "SELECT 1 FROM mysql.user WHERE User = " + literal(name) + " AND Host = " + literal(anyHost)
}

// databasesOf lists the databases, as patterns, that an account may use.
func databasesOf(name string) string {
	return "SELECT Db FROM mysql.db WHERE User = " + literal(name) + " AND Host = " + literal(anyHost)
}

// inventory lists databases, and accounts with their hosts.
func inventory(prefix string) string {
	like := literal(strings.ReplaceAll(prefix, "_", "|_")+"%") + " ESCAPE '|'"
	return "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE " + like +
		"; SELECT User, Host FROM mysql.user WHERE User LIKE " + like
}

// ownRights are the privileges of Bindery's account, on everything and on its databases.
const ownRights = `SELECT PRIVILEGE_TYPE, IS_GRANTABLE, '*' FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = ` + ownGrantee +
	` UNION ALL SELECT PRIVILEGE_TYPE, IS_GRANTABLE, TABLE_SCHEMA FROM information_schema.SCHEMA_PRIVILEGES WHERE GRANTEE = ` + ownGrantee

const ownGrantee = `CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')`

// ping asks for the version, whether the server has a certificate, literal names
// in grants and roles that everybody has (where it says), who may log in without a
// name, and what everybody may use.
const ping = "SELECT VERSION(); SHOW GLOBAL STATUS LIKE 'Ssl_server_not_after'; " +
	"SHOW VARIABLES WHERE Variable_name IN ('partial_revokes', 'mandatory_roles', 'read_only'); " +
	"SELECT (SELECT COUNT(*) FROM mysql.user WHERE User = ''), (SELECT COUNT(*) FROM mysql.db WHERE User IN ('', 'PUBLIC')); " + ownRights
