package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"bindery"
)

// A target is a role whose sessions must end: an oid, and the name that it has
// unless it was dropped.
type target struct {
	name string
	oid  uint32
}

func targetsOf(name string, oids []uint32) []target {
	var targets []target
	for _, oid := range oids {
		targets = append(targets, target{name, oid})
	}
	return targets
}

// What one look at the server's sessions has seen.
type seen struct {
	opening map[string]bool // backends that may be opening a session
	open    map[uint32]bool // oids of roles that had a session, which was told to end if there were targets
	strange map[string]bool // databases of sessions of roles that may not connect there, which were told to end
}

// look looks once, and tells the sessions of targets and of strangers to end.
func (d *driver) look(ctx context.Context, targets []target) (*seen, error) {
	results, err := d.pool.exec(ctx, endSessions(d.prefix, targets))
	if err != nil {
		return nil, err
	}
	return readSessions(results), nil
}

// readSessions reads the two answers to endSessions, which are the last ones.
func readSessions(results []*pgconn.Result) *seen {
	results = results[len(results)-2:]
	s := &seen{opening: map[string]bool{}, open: map[uint32]bool{}, strange: map[string]bool{}}
	for _, row := range results[0].Rows {
		s.opening[string(row[0])] = true
	}
	shown := results[1].Rows[0]
	for _, pid := range array(shown[0]) {
		delete(s.opening, pid)
	}
	for _, text := range array(shown[1]) {
		if oid, err := strconv.ParseUint(text, 10, 32); err == nil { // else NULL: a session of somebody else
			s.open[uint32(oid)] = true
		}
	}
	for _, database := range array(shown[2]) {
		if database != null {
			s.strange[database] = true
		}
	}
	return s
}

// null is what an array has where there is no value. No name is in upper case.
const null = "NULL"

// array reads an array of numbers or of names.
func array(text []byte) []string { return strings.Split(strings.Trim(string(text), "{}"), ",") }

// openingLimit is how long a session that is being opened is waited for. It
// takes a server a few milliseconds from the look at the role to the entry in
// the list of sessions. What takes longer has not been given its password yet,
// and will find that there is no such role.
const openingLimit = 100 * time.Millisecond

// endAll looks until the sessions of oids, and those of strangers in their
// instance's database, have ended and none is being opened. Without oids or an
// instance, strangers in all databases count.
func endAll(ctx context.Context, instance string, oids []uint32, look func(context.Context) (*seen, error)) error {
	started := time.Now()
	var opening map[string]bool // at the first look; later ones found no role
	for wait := firstWait; ; wait = min(2*wait, longestWait) {
		s, err := look(ctx)
		if err != nil {
			return err
		}
		still := map[string]bool{}
		for pid := range s.opening {
			if opening == nil || opening[pid] {
				still[pid] = true
			}
		}
		opening = still
		open := s.strange[instance] || (len(oids) == 0 || instance == "") && len(s.strange) > 0
		for _, oid := range oids {
			open = open || s.open[oid]
		}
		if !open && (len(opening) == 0 || time.Since(started) > openingLimit) {
			return nil
		}
		if err := bindery.Sleep(ctx, wait); err != nil {
			return fmt.Errorf("sessions do not end: %w", err)
		}
	}
}

// endLive ends the sessions of a role that is still there.
func (d *driver) endLive(ctx context.Context, instance, name string, oids []uint32) error {
	targets := targetsOf(name, oids)
	return endAll(ctx, instance, oids, func(ctx context.Context) (*seen, error) { return d.look(ctx, targets) })
}
