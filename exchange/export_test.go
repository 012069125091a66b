package exchange

import (
	"time"

	"bindery"
)

// Waiting is how many callers wait for a call that another one makes.
func (s *Service) Waiting() int {
	s.flying.Lock()
	defer s.flying.Unlock()
	n := 0
	for _, f := range s.flights {
		n += f.joined
	}
	return n
}

// Entries is how many lookups are kept.
func (s *Service) Entries() int {
	s.lookups.mu.Lock()
	defer s.lookups.mu.Unlock()
	return len(s.lookups.young) + len(s.lookups.old)
}

// Record counts a success of a binding.
func (s *Service) Record(binding int64, at time.Time) {
	s.record.add(binding, bindery.AuthSucceeded, at)
}
