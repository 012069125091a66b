package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Everything that is sent. Several statements in one string are one round trip
// and, unless they say otherwise, one transaction, which either happens or does not.

// readers is the name of an instance's read-only group.
func readers(group string) string { return group + readersSuffix }

const readersSuffix = "_ro"

// ofReaders returns the group whose readers a role is. A name of [bindery.Name]
// ends in the suffix too where its row is spelled "ro"; what is before that is
// no name, as one has two underscores.
func ofReaders(role string) (group string, ok bool) {
	group, ok = strings.CutSuffix(role, readersSuffix)
	if !ok || strings.Count(group, "_") < 2 {
		return role, false
	}
	return group, true
}

// A login is how a role may log in: with which password, on how many connections
// at once, until when. The end is the second line: at that time the role is removed.
type login struct {
	verifier string
	limit    int
	until    time.Time // zero: for ever
}

func (l login) options() string {
	until := "infinity"
	if !l.until.IsZero() {
		until = l.until.UTC().Format("2006-01-02 15:04:05.999999") + " UTC"
	}
	return " PASSWORD " + literal(l.verifier) + " VALID UNTIL " + literal(until) + " CONNECTION LIMIT " + strconv.Itoa(l.limit)
}

// createAccount makes a login role that acts as its group, so that what it
// makes belongs to the group and nothing but a membership depends on the role.
//
// The order matters from 16 on. Who makes a role becomes a member of it, and
// each membership that is made lets the server forget all that it knew of
// memberships; so what looks at them comes between two that are made. The last
// one also locks the group until the end of the transaction.
func createAccount(name, group string, l login) string {
	return "CREATE ROLE " + ident(name) + " LOGIN" + l.options() +
		"; ALTER ROLE " + ident(name) + " SET role TO " + ident(group) +
		"; GRANT " + ident(group) + " TO " + ident(name) +
		"; " + roleOID(name)
}

// resetAccount gives an existing role back what createAccount gave it. A role
// may have changed its own password and settings, in general and per database.
func resetAccount(name, group, database string, l login) string {
	return "ALTER ROLE " + ident(name) + " LOGIN INHERIT NOCREATEDB NOCREATEROLE" + l.options() +
		"; ALTER ROLE " + ident(name) + " RESET ALL" +
		"; ALTER ROLE " + ident(name) + " IN DATABASE " + ident(database) + " RESET ALL" +
		"; ALTER ROLE " + ident(name) + " SET role TO " + ident(group) +
		"; GRANT " + ident(group) + " TO " + ident(name) +
		"; " + roleOID(name)
}

// roleOID finds the role's oid; NULL when there is no such role.
func roleOID(name string) string {
	return "SELECT pg_catalog.to_regrole(" + literal(ident(name)) + ")::oid"
}

// dropAccount answers with the oid that the role had, by which its sessions are found.
func dropAccount(name string) string {
	return roleOID(name) + "; DROP ROLE IF EXISTS " + ident(name)
}

// dropRoles drops roles in a transaction of its own; what is sent after it in the
// same string comes after its commit. It waits for no lock for long.
func dropRoles(names []string) string {
	oids := make([]string, len(names))
	for i, name := range names {
		oids[i] = "pg_catalog.to_regrole(" + literal(ident(name)) + ")::oid"
	}
	return "BEGIN; SET LOCAL lock_timeout TO " + milliseconds(heldLimit) +
		"; SELECT " + strings.Join(oids, ", ") + "; DROP ROLE IF EXISTS " + idents(names) + "; COMMIT; "
}

// dropRolesOIDs is which result of dropRoles holds the oids that the roles had.
const dropRolesOIDs = 2

// lockAccount keeps new sessions out.
func lockAccount(name string) string {
	return "ALTER ROLE " + ident(name) + " NOLOGIN; " + roleOID(name)
}

// memberships lists the groups that a role is in.
func memberships(name string) string {
	return "SELECT DISTINCT g.rolname FROM pg_catalog.pg_auth_members m" +
		" JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles r ON r.oid = m.member" +
		" WHERE r.rolname = " + literal(name)
}

// members lists the roles that are members of a role, but for Bindery's own.
// Before 15 a role can grant membership in itself.
func members(name string) string {
	return "SELECT DISTINCT r.rolname FROM pg_catalog.pg_auth_members m" +
		" JOIN pg_catalog.pg_roles g ON g.oid = m.roleid JOIN pg_catalog.pg_roles r ON r.oid = m.member" +
		" WHERE g.rolname = " + literal(name) + " AND r.rolname <> current_user"
}

func leave(members, groups []string) string {
	return "REVOKE " + idents(groups) + " FROM " + idents(members)
}

// endSessions ends the sessions of targets and those of strangers, and answers in
// two results what still runs:
//
//  1. the backends that are in a transaction, which every backend is from before
//     it looks its role up until it shows in the list of sessions;
//  2. the backends that show in the list of sessions, the oids of the roles of
//     those of them that were ended, or are about to, and the databases of the
//     strangers, all as arrays. Without targets, the oids are those of all: that is
//     a quarter of the server's work.
//
// What is in the first and not in the second may be a session of the role that
// is just being opened. The order matters: the list of sessions is read last.
//
// An oid that a role of another name has by now is left alone.
//
// A stranger is a session, in a database whose name begins with prefix, of a role
// that may not connect there. Its role was dropped, or it came by way of one that
// was: before 15 a role can make others members of itself, and a session that
// acts as an instance's group does so until it ends.
func endSessions(prefix string, targets []target) string {
	return opening + "; " + sessions(prefix, targets)
}

func sessions(prefix string, targets []target) string {
	roles := "a.usesysid"
	if len(targets) > 0 {
		cond := "false"
		for _, t := range targets {
			oid := strconv.FormatUint(uint64(t.oid), 10)
			cond += " OR a.usesysid = " + oid + " AND pg_catalog.pg_get_userbyid(a.usesysid) IN (" +
				literals([]string{"unknown (OID=" + oid + ")", t.name}) + ")" // what the server calls a role that is gone
		}
		roles = "CASE WHEN " + cond + " THEN CASE WHEN pg_catalog.pg_terminate_backend(a.pid) IS NOT NULL THEN a.usesysid END END"
	}
	strangers := "CASE WHEN NOT pg_catalog.has_database_privilege(a.usesysid, a.datid, 'CONNECT') THEN" +
		" (SELECT CASE WHEN pg_catalog.pg_terminate_backend(a.pid) IS NOT NULL THEN d.datname END" +
		" FROM pg_catalog.pg_database d WHERE d.oid = a.datid AND pg_catalog.starts_with(d.datname, " + literal(prefix) + ")) END"
	return "SELECT pg_catalog.array_agg(a.pid), pg_catalog.array_agg(" + roles + "), pg_catalog.array_agg(" + strangers + ")" +
		" FROM pg_catalog.pg_stat_get_activity(NULL) a WHERE a.usesysid IS NOT NULL OR a.datid IS NOT NULL"
}

// opening is the first of the two results.
const opening = "SELECT pid FROM pg_catalog.pg_lock_status() WHERE locktype = 'virtualxid' AND pid <> pg_catalog.pg_backend_pid()"

// prepareLook lets a connection know endSessions without targets, and preparedLook
// asks for it: to plan it takes the server longer than to answer it.
func prepareLook(prefix string) string {
	return "PREPARE bindery_opening AS " + opening + "; PREPARE bindery_sessions AS " + sessions(prefix, nil)
}

const preparedLook = "EXECUTE bindery_opening; EXECUTE bindery_sessions"

// endOwn ends sessions of Bindery itself and lists those that still run: the
// named ones and, when others is set, all of this installation that do not
// carry the current process's prefix.
func endOwn(names []string, others bool, installation, process string) string {
	cond := "false"
	if len(names) > 0 {
		cond = "application_name IN (" + literals(names) + ")"
	}
	if others {
		cond += " OR (pg_catalog.starts_with(application_name, " + literal(installation) +
			") AND NOT pg_catalog.starts_with(application_name, " + literal(process) + "))"
	}
	return "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_get_activity(NULL)" +
		" WHERE usesysid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user)" +
		" AND pid <> pg_catalog.pg_backend_pid() AND (" + cond + ")"
}

// dependents lists the databases in which something depends on a role; an empty
// name stands for what all databases share.
func dependents(name string) string {
	return "SELECT DISTINCT coalesce(d.datname, '')" +
		" FROM pg_catalog.pg_shdepend s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.dbid" +
		" WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass" +
		" AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = " + literal(name) + ")"
}

// grantors lists who owns what a role was granted in the current database.
func grantors(name string) string {
	const owners = "SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS class, oid AS obj, relowner AS owner FROM pg_catalog.pg_class" +
		" UNION ALL SELECT 'pg_catalog.pg_namespace'::pg_catalog.regclass, oid, nspowner FROM pg_catalog.pg_namespace" +
		" UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, oid, proowner FROM pg_catalog.pg_proc" +
		" UNION ALL SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, oid, typowner FROM pg_catalog.pg_type" +
		" UNION ALL SELECT 'pg_catalog.pg_default_acl'::pg_catalog.regclass, oid, defaclrole FROM pg_catalog.pg_default_acl" +
		" UNION ALL SELECT 'pg_catalog.pg_largeobject'::pg_catalog.regclass, oid, lomowner FROM pg_catalog.pg_largeobject_metadata"
	return "SELECT DISTINCT r.rolname FROM pg_catalog.pg_shdepend s JOIN (" + owners + ") o ON o.class = s.classid AND o.obj = s.objid" +
		" JOIN pg_catalog.pg_roles r ON r.oid = o.owner" +
		" WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.deptype = 'a'" +
		" AND s.refobjid = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = " + literal(name) + ")" +
		" AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
}

// borrow makes Bindery's own role a member of others. It is always followed by
// giveBack in the same transaction: a lasting membership per instance would make
// every permission check of Bindery's role slower. From 16 on the right to make
// a role and the right to act as it are apart.
func borrow(major int, roles ...string) string {
	sql := "GRANT " + idents(roles) + " TO CURRENT_USER"
	if major >= 16 {
		sql += " WITH INHERIT TRUE, SET TRUE"
	}
	return sql
}

func giveBack(roles ...string) string {
	return "; REVOKE " + idents(roles) + " FROM CURRENT_USER"
}

// release gives what a role owns in the current database to another, and takes
// away what it was granted there. Only an owner's hand can do that, so Bindery
// acts as the owners meanwhile.
func release(major int, name, to string, owners []string) string {
	roles := append([]string{name, to}, owners...)
	slices.Sort(roles)
	roles = slices.Compact(roles)
	return borrow(major, roles...) +
		"; REASSIGN OWNED BY " + ident(name) + " TO " + ident(to) +
		"; DROP OWNED BY " + ident(name) + giveBack(roles...)
}

// groupsOf lists the group roles of an instance that exist.
func groupsOf(group string) string {
	return "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN (" + literals([]string{group, readers(group)}) + ")"
}

func createGroups(names []string) string {
	var out []string
	for _, name := range names {
		out = append(out, "CREATE ROLE "+ident(name)+" NOLOGIN")
	}
	return strings.Join(out, "; ")
}

func dropGroups(group string) string {
	return "DROP ROLE IF EXISTS " + idents([]string{group, readers(group)})
}

// databaseState finds a database; one with the limit invalidDatabase is the rest of an interrupted DROP DATABASE.
func databaseState(name string) string {
	return "SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = " + literal(name)
}

const invalidDatabase = "-2"

// createDatabase makes a database that nobody can connect to until
// shareDatabase has closed it to PUBLIC. Bindery's role owns it, not the group:
// an owner could lift the plan's limits and let other roles connect.
func createDatabase(name string) string {
	return "CREATE DATABASE " + ident(name) + " TEMPLATE template1 ALLOW_CONNECTIONS false"
}

// shareDatabase sets who may connect, and the plan's limits.
func shareDatabase(name string, s planSettings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "REVOKE ALL ON DATABASE %s FROM PUBLIC", ident(name))
	fmt.Fprintf(&b, "; GRANT CONNECT, CREATE, TEMPORARY ON DATABASE %s TO %s", ident(name), ident(name))
	fmt.Fprintf(&b, "; GRANT CONNECT ON DATABASE %s TO %s", ident(name), ident(readers(name)))
	for _, t := range s.timeouts() {
		if t.value == 0 {
			fmt.Fprintf(&b, "; ALTER DATABASE %s RESET %s", ident(name), t.name)
		} else {
			fmt.Fprintf(&b, "; ALTER DATABASE %s SET %s TO %s", ident(name), t.name, milliseconds(t.value))
		}
	}
	fmt.Fprintf(&b, "; ALTER DATABASE %s CONNECTION LIMIT %d ALLOW_CONNECTIONS true", ident(name), unlimited(s.ConnectionLimit))
	return b.String()
}

// limitDatabase sets the number of connections that a database takes.
func limitDatabase(name string, limit int) string {
	return "ALTER DATABASE " + ident(name) + " CONNECTION LIMIT " + strconv.Itoa(limit)
}

// furnishDatabase runs in the instance's own database: the public schema
// belongs to the group, and what the group makes can be read by the readers.
// Extensions are made by the group, so that the application can update them.
func furnishDatabase(major int, group string, extensions []string) string {
	g, ro := ident(group), ident(readers(group))
	defaults := "; ALTER DEFAULT PRIVILEGES FOR ROLE " + g + " GRANT "
	sql := borrow(major, group) +
		// An application may have dropped it, as some tools do to start afresh.
		"; CREATE SCHEMA IF NOT EXISTS public AUTHORIZATION " + g +
		"; ALTER SCHEMA public OWNER TO " + g +
		"; REVOKE ALL ON SCHEMA public FROM PUBLIC" +
		"; GRANT USAGE ON SCHEMA public TO " + ro +
		defaults + "USAGE ON SCHEMAS TO " + ro +
		defaults + "SELECT ON TABLES TO " + ro +
		defaults + "SELECT ON SEQUENCES TO " + ro
	if len(extensions) > 0 {
		sql += "; SET LOCAL ROLE " + g
		for _, x := range extensions {
			sql += "; CREATE EXTENSION IF NOT EXISTS " + ident(x) + " WITH SCHEMA public CASCADE"
		}
		sql += "; RESET ROLE"
	}
	return sql + giveBack(group)
}

func closeDatabase(name string) string {
	return "ALTER DATABASE " + ident(name) + " ALLOW_CONNECTIONS false"
}

// endDatabase ends the sessions in a database and lists those that still run.
// Those of superusers, autovacuum among them, are not Bindery's to end; DROP
// DATABASE waits for them.
func endDatabase(name string) string {
	return "SELECT a.pid, pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_get_activity(NULL) a" +
		" LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.usesysid" +
		" WHERE a.usesysid IS NOT NULL AND r.rolsuper IS NOT TRUE AND a.pid <> pg_catalog.pg_backend_pid()" +
		" AND a.datid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = " + literal(name) + ")"
}

func dropDatabase(name string) string { return "DROP DATABASE IF EXISTS " + ident(name) }

// inventory lists the databases, then the roles, whose names begin with prefix.
func inventory(prefix string) string {
	return "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname, " + literal(prefix) + ")" +
		"; SELECT rolname FROM pg_catalog.pg_roles WHERE pg_catalog.starts_with(rolname, " + literal(prefix) + ")"
}

// ping finds what Bindery's role may do, then the databases that anybody may connect to.
const ping = "SELECT pg_catalog.current_setting('server_version_num')::int, rolsuper OR (rolcreaterole AND rolcreatedb)," +
	" rolsuper OR pg_catalog.pg_has_role(oid, 'pg_signal_backend', 'USAGE')" +
	" FROM pg_catalog.pg_roles WHERE rolname = current_user" +
	"; SELECT count(*) FROM pg_catalog.pg_database WHERE datallowconn" +
	" AND pg_catalog.has_database_privilege('public', oid, 'CONNECT')"

func unlimited(limit int) int {
	if limit == 0 {
		return -1
	}
	return limit
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// incarnation is when the server was started.
const incarnation = "SELECT pg_catalog.pg_postmaster_start_time()"
