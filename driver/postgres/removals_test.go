package postgres_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"

	"bindery"
	"bindery/devserver/servertest"
	"bindery/driver/postgres"
)

// Revocations at the same time share a transaction, and nothing else.
func TestRemovalsTogether(t *testing.T) {
	t.Parallel()
	eachLab(t, map[string]func(*lab){
		"all roles and all sessions end":                           allEnd,
		"a role that cannot be dropped does not harm the others":   poisoned,
		"a role that somebody holds does not keep the others":      heldByOperator,
		"an oid that the store does not know is found":             unknownOID,
		"one that gives up does not harm the others":               givesUp,
		"a batch that a dying server lost can be repeated":         serverDies,
		"more than one batch holds and roles that are not there":   manyAndMissing,
		"a connection that failed in a transaction is clean again": cleanAgain,
	})
}

// revocations are calls under way, in the order of their accounts.
type revocations []chan error

// together revokes accounts in one batch.
func (l *lab) together(spec bindery.InstanceSpec, contexts []context.Context, accounts ...bindery.Account) revocations {
	l.Helper()
	all := make(revocations, len(accounts))
	send := postgres.Gather(l.driver)
	for i, a := range accounts {
		ctx := l.Context()
		if contexts != nil && contexts[i] != nil {
			ctx = contexts[i]
		}
		all[i] = make(chan error, 1)
		go func() { all[i] <- l.driver.Revoke(ctx, spec, a) }()
	}
	send(len(accounts))
	return all
}

// gone checks that accounts were revoked, and their sessions have ended.
func (l *lab) gone(all revocations, accounts []bindery.Account, sessions []*client) {
	l.Helper()
	for i, a := range accounts {
		l.must("revoke", <-all[i])
		if l.count(`SELECT count(*) FROM pg_roles WHERE rolname = $1`, a.Name) != 0 {
			l.Errorf("role %d is still there", i)
		}
	}
	for _, c := range sessions {
		c.ended()
	}
}

// tenants binds n times, and logs in with each.
func (l *lab) tenants(spec bindery.InstanceSpec, n int) (accounts []bindery.Account, sessions []*client) {
	l.Helper()
	for range n {
		accounts = append(accounts, l.bind(spec, ``))
		sessions = append(sessions, l.client(spec, accounts[len(accounts)-1]))
	}
	return accounts, sessions
}

func allEnd(l *lab) {
	spec := l.instance(`{}`)
	accounts, sessions := l.tenants(spec, 5)
	stays := l.client(spec, l.bind(spec, ``))
	l.gone(l.together(spec, nil, accounts...), accounts, sessions)
	stays.do(`SELECT 1`)
}

func poisoned(l *lab) {
	spec := l.instance(`{}`)
	accounts, sessions := l.tenants(spec, 4)
	operator := l.super("postgres")
	table := "t_" + accounts[3].Name
	operator.do(`CREATE TABLE `+table+` ()`, `GRANT SELECT ON `+table+` TO `+accounts[3].Name)
	sessions[2].do(`SET ROLE NONE`, `CREATE TABLE mine ()`) // which is moved out of the way

	all := l.together(spec, nil, accounts...)
	l.gone(all, accounts[:3], sessions)
	l.wantCode("revoke what an operator granted something", <-all[3], bindery.CodeUnavailable)

	operator.do(`DROP TABLE ` + table)
	l.gone(l.together(spec, nil, accounts...), accounts, nil)
}

func heldByOperator(l *lab) {
	spec := l.instance(`{}`)
	accounts, sessions := l.tenants(spec, 4)
	operator := l.super("postgres")
	table := "t_" + accounts[0].Name
	// Locks the role until the transaction ends, and no revocation ends an operator's session.
	operator.do(`CREATE TABLE `+table+` ()`, `BEGIN`, `GRANT SELECT ON `+table+` TO `+accounts[0].Name)

	all := l.together(spec, nil, accounts...)
	l.gone(all[1:], accounts[1:], sessions[1:])
	if len(all[0]) > 0 {
		l.Errorf("the others came after the one that was held, which got %v", <-all[0])
	}
	operator.do(`ROLLBACK`, `DROP TABLE `+table)
	l.gone(all[:1], accounts[:1], sessions[:1])
}

func unknownOID(l *lab) {
	spec := l.instance(`{}`)
	accounts, sessions := l.tenants(spec, 3)
	accounts[0].Details = nil
	accounts[1].Details = accounts[2].Details // of a role that was made anew meanwhile
	l.gone(l.together(spec, nil, accounts...), accounts, sessions)
}

// blocked runs f while every DROP ROLE waits, once one does.
func (l *lab) blocked(start func() revocations, f func(revocations)) {
	l.Helper()
	blocker := l.super("postgres")
	blocker.do(`BEGIN`, `LOCK TABLE pg_auth_members IN SHARE ROW EXCLUSIVE MODE`)
	all := start()
	for l.count(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'`) == 0 {
		for i := range all {
			if len(all[i]) > 0 {
				l.Fatalf("revocation %d did not wait: %v", i, <-all[i])
			}
		}
	}
	f(all)
	blocker.do(`ROLLBACK`)
}

func (l *lab) alone() *lab {
	return newLab(l.T, servertest.Postgres(l, servertest.Version(strconv.Itoa(l.p.Version))))
}

func givesUp(l *lab) {
	l = l.alone() // the lock stops everybody
	spec := l.instance(`{}`)
	accounts, sessions := l.tenants(spec, 4)
	ctx, cancel := context.WithCancel(l.Context())
	var all revocations
	l.blocked(func() revocations {
		return l.together(spec, []context.Context{ctx, nil, nil, nil}, accounts...)
	}, func(started revocations) {
		all = started
		cancel()
		l.wantCode("revoke", <-all[0], bindery.CodeUnavailable)
	})
	l.gone(all[1:], accounts[1:], sessions[1:])
	l.revoke(spec, accounts[0])
	sessions[0].ended()
}

func serverDies(l *lab) {
	l = l.alone()
	spec := l.instance(`{}`)
	for round := range 4 {
		accounts, _ := l.tenants(spec, 4)
		all := l.together(spec, nil, accounts...)
		l.must("kill", l.p.Kill())
		confirmed := map[string]bool{}
		for i, a := range accounts {
			err := <-all[i]
			confirmed[a.Name] = err == nil
			if err != nil && bindery.CodeOf(err) != bindery.CodeUnavailable {
				l.Errorf("round %d, revocation %d: got %v, want nothing or that the server does not answer", round, i, err)
			}
		}
		l.must("start", l.p.Start(l.Context()))
		for name, is := range confirmed {
			if is && l.count(`SELECT count(*) FROM pg_roles WHERE rolname = $1`, name) != 0 {
				l.Errorf("round %d: what was confirmed came back", round)
			}
		}
		l.gone(l.together(spec, nil, accounts...), accounts, nil)
	}
}

func manyAndMissing(l *lab) {
	spec := l.instance(`{}`)
	accounts, sessions := l.tenants(spec, 3)
	for range 100 {
		accounts = append(accounts, bindery.Account{Name: l.name(), Details: []byte(fmt.Sprintf(`{"oid":%d}`, 4_000_000_000+l.row.Load()))})
	}
	all := l.together(spec, nil, accounts...)
	l.gone(all[:3], accounts[:3], sessions)
	for _, one := range all[3:] {
		l.must("revoke what is not there", <-one)
	}
}

func cleanAgain(l *lab) {
	spec := l.instance(`{}`)
	for range 3 {
		account := l.bind(spec, ``)
		l.client(spec, account).do(`SET ROLE NONE`, `CREATE TABLE mine ()`, `ALTER TABLE mine RENAME TO t_`+account.Name)
		l.revoke(spec, account) // a batch of one fails first
		if n := l.count(`SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'bindery ' || $1 || ' %'
			AND state LIKE 'idle in transaction%'`, l.installation); n != 0 {
			l.Fatalf("%d connections are left in a transaction", n)
		}
	}
}
