package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"bindery"
)

// An object is something stored that runs with its definer's rights.
type object struct {
	kind, name string // as SHOW CREATE and DROP call it
	database   string
	status     string // of an event
	mine       bool   // of the definer that goes; others are made again to keep an order
}

// stored lists what an account is the definer of in a database.
func stored(database, name string) string {
	of := func(columns, table, schema string) string {
		return "SELECT " + columns + " FROM information_schema." + table + " WHERE " + schema + " = " + literal(database) +
			" AND DEFINER = " + literal(name+"@"+anyHost)
	}
	return strings.Join([]string{
		of("ROUTINE_TYPE, ROUTINE_NAME, ''", "ROUTINES", "ROUTINE_SCHEMA"),
		of("'EVENT', EVENT_NAME, STATUS", "EVENTS", "EVENT_SCHEMA"),
		of("'TRIGGER', TRIGGER_NAME, ''", "TRIGGERS", "TRIGGER_SCHEMA"),
		of("'VIEW', TABLE_NAME, ''", "VIEWS", "TABLE_SCHEMA"),
	}, " UNION ALL ")
}

// triggers lists all of a database, in the order in which they run.
func triggers(database, name string) string {
	return "SELECT CONCAT(EVENT_OBJECT_TABLE, '/', ACTION_TIMING, '/', EVENT_MANIPULATION), TRIGGER_NAME, DEFINER = " +
		literal(name+"@"+anyHost) + " FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = " + literal(database) +
		" ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER"
}

// owns reports whether an account is the definer of anything.
func (d *driver) owns(ctx context.Context, databases []string, name string) (bool, error) {
	for _, database := range databases {
		results, err := d.pool.exec(ctx, stored(database, name))
		if err != nil || len(results[0].rows) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// moveRest moves what is there of an account's objects, and looks again.
func (d *driver) moveRest(ctx context.Context, databases []string, name string) error {
	var stuck error
	for _, database := range databases {
		results, err := d.pool.exec(ctx, stored(database, name))
		if err != nil {
			return failed("look for stored objects", err)
		}
		if len(results[0].rows) == 0 {
			continue
		}
		if err := d.pool.in(ctx, func(c *conn) error { return d.move(ctx, c, database, name, results[0].rows) }); err != nil {
			stuck = errors.Join(stuck, err)
		}
	}
	if stuck == nil {
		return nil
	}
	if err := failed("move stored objects", stuck); number(stuck) == 0 && bindery.CodeOf(err) == bindery.CodeUnavailable {
		return err
	}
	return bindery.Errorf(bindery.CodeUnavailable,
		"the account cannot log in, and what it stored cannot be given to its instance").Because(stuck)
}

// move gives objects to the instance's definer. SHOW CREATE says how each was
// made, and under which settings; it is made again, by a definer of another name.
func (d *driver) move(ctx context.Context, c *conn, database, name string, rows [][]string) error {
	results, err := d.pool.run(ctx, c, "USE "+ident(database)+"; SET SESSION character_set_results = NULL; "+triggers(database, name))
	if err != nil {
		return err
	}
	objects := inOrder(rows, results[0].rows)
	made := make([]creation, 0, len(objects))
	for _, o := range objects {
		o.database = database
		results, err := d.pool.run(ctx, c, "SHOW CREATE "+o.kind+" "+ident(o.name))
		if err != nil {
			if vanished(number(err)) {
				continue
			}
			return err
		}
		made = append(made, readCreation(o, results[0]))
	}
	for _, m := range made {
		err = errors.Join(err, d.recreate(ctx, c, m, name, database))
		if c.broken {
			return err
		}
	}
	return err
}

// inOrder puts packages before their bodies, and triggers in the order in which
// they run, with others' that come after one that moves: what is made again
// comes last.
func inOrder(rows, triggers [][]string) []object {
	var objects []object
	for _, row := range rows {
		if row[0] != "TRIGGER" {
			objects = append(objects, object{kind: row[0], name: row[1], status: row[2], mine: true})
		}
	}
	slices.SortStableFunc(objects, func(a, b object) int { return strings.Compare(a.kind, b.kind) })
	moving := map[string]bool{}
	for _, row := range triggers {
		mine := row[2] == "1"
		moving[row[0]] = moving[row[0]] || mine
		if moving[row[0]] {
			objects = append(objects, object{kind: "TRIGGER", name: row[1], mine: mine})
		}
	}
	return objects
}

// vanished reports whether an object is not there any more.
func vanished(n uint16) bool {
	return slices.Contains([]uint16{errUnknownTable, errNoRoutine, errNoTrigger, errNoEvent}, n)
}

// A creation is what SHOW CREATE says of an object.
type creation struct {
	object
	statement string
	settings  string // that it was made under, as SET takes them
}

func readCreation(o object, r result) creation {
	m := creation{object: o}
	var settings []string
	for i, column := range r.columns {
		value := r.rows[0][i]
		switch {
		case slices.Contains([]string{"sql_mode", "time_zone", "character_set_client", "collation_connection"}, column):
			settings = append(settings, column+" = "+literal(value))
		case strings.HasPrefix(column, "Create "), column == "SQL Original Statement":
			m.statement = value
		}
	}
	m.settings = "SET SESSION " + strings.Join(settings, ", ")
	return m
}

// recreate makes an object again. MariaDB replaces it in one step, but for a
// package, whose body is away until it is made again. MySQL can do
// that with views and events only; a routine or trigger is dropped and made, and
// made as it was if that fails.
func (d *driver) recreate(ctx context.Context, c *conn, m creation, from, to string) error {
	statement := m.statement
	if m.mine {
		var ok bool
		if statement, ok = withDefiner(m.statement, from, to); !ok {
			return fmt.Errorf("%s %s: its definition has no definer that can be replaced", m.kind, m.name)
		}
	}
	if _, err := d.pool.run(ctx, c, m.settings); err != nil {
		return err
	}
	drop := "DROP " + m.kind + " IF EXISTS " + ident(m.name)
	var err error
	switch {
	case m.kind == "EVENT":
		_, err = d.pool.run(ctx, c, alterEvent(m.object, to))
	case m.kind == "VIEW" || d.isMariaDB() && !strings.Contains(strings.ToUpper(statement), "IF NOT EXISTS"):
		_, err = d.pool.run(ctx, c, orReplace(statement))
	default:
		if _, err = d.pool.run(ctx, c, drop); err != nil {
			break
		}
		if _, err = d.pool.run(ctx, c, statement); err != nil && !c.broken {
			_, undo := d.pool.run(ctx, c, m.statement)
			err = errors.Join(err, undo)
		}
	}
	if m.kind == "VIEW" && slices.Contains([]uint16{errUnknownTable, errUnknownColumn, errNoRoutine, errInvalidView}, number(err)) {
		return nil // it does not work as it is: what it selects from is gone
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", m.kind, m.name, err)
	}
	return nil
}

func (d *driver) isMariaDB() bool {
	d.pool.mu.Lock()
	defer d.pool.mu.Unlock()
	return d.pool.flavor == mariadb
}

// alterEvent changes an event's definer; it must change something else as well,
// and is told the status that it has.
func alterEvent(o object, to string) string {
	status := "DISABLE"
	switch o.status {
	case "ENABLED":
		status = "ENABLE"
	case "SLAVESIDE_DISABLED", "REPLICA_SIDE_DISABLED":
		status = "DISABLE ON SLAVE"
	}
	return "ALTER DEFINER = " + at(to, definerHost) + " EVENT " + ident(o.name) + " " + status
}

// withDefiner replaces the definer in a definition that the server wrote. It
// comes before anything that an application chose, in the quotes of the sql_mode
// of the object.
func withDefiner(statement, from, to string) (string, bool) {
	for _, quote := range []string{"`", `"`} {
		definer := func(name, host string) string {
			return " DEFINER=" + quote + name + quote + "@" + quote + host + quote + " "
		}
		before, after, ok := strings.Cut(statement, definer(from, anyHost))
		if ok && len(before) <= len("CREATE OR REPLACE ALGORITHM=TEMPTABLE") && !strings.Contains(before, "DEFINER=") {
			return before + definer(to, definerHost) + after, true
		}
	}
	return "", false
}

func orReplace(statement string) string {
	if strings.HasPrefix(statement, "CREATE OR REPLACE ") {
		return statement
	}
	return "CREATE OR REPLACE " + strings.TrimPrefix(statement, "CREATE ")
}
