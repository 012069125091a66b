package main

import (
	"strings"
	"testing"

	"bindery"
	"bindery/api"
)

func TestStuckSaysWhere(t *testing.T) {
	t.Parallel()
	if err := stuck([]bindery.Backlog{{Server: "r1", State: bindery.AccountUnproven, Count: 9}}); err != nil {
		t.Errorf("what is yet to be proven is not stuck: %v", err)
	}
	err := stuck([]bindery.Backlog{
		{Server: "r1", State: bindery.AccountStuck, Count: 2},
		{Server: "r1", State: bindery.AccountUnproven, Count: 9},
		{Server: "r2", State: bindery.AccountStuck, Count: 1},
	})
	if text := bindery.MessageOf(err); !strings.Contains(text, "2 on r1, 1 on r2") {
		t.Errorf("got %q", text)
	}
}

// Stuck accounts are told of, and make nobody turn away from the others.
func TestReadinessTellsOfRevocations(t *testing.T) {
	t.Parallel()
	s, _, _ := start(t)
	if err := s.health.Await(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen, _ := s.health.Ready()
	var found []api.CheckResult
	for _, c := range seen.Checks {
		if c.Name == "revocations" {
			found = append(found, c)
		}
	}
	if len(found) != 1 || found[0].Essential || found[0].Status == "failing" {
		t.Errorf("got %+v", found)
	}
}
