package store

import (
	"slices"
	"sync"

	"bindery"
)

// mostHostLists bounds how many lists are remembered.
const mostHostLists = 1024

// hostLists let all resolutions of one revision of a service type share its hosts.
// There may be a thousand, and those who resolve remember many resolutions: a copy
// for each would be some hundred megabytes.
type hostLists struct {
	mu    sync.Mutex
	known map[hostsOf][]string
}

type hostsOf struct{ row, revision int64 }

// share returns the hosts of s, those that were returned before where they are the same.
func (l *hostLists) share(s bindery.ServiceType) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := hostsOf{s.Row, s.Revision}
	if known, ok := l.known[of]; ok && slices.Equal(known, s.Hosts) {
		return known
	}
	if l.known == nil || len(l.known) >= mostHostLists {
		l.known = make(map[hostsOf][]string)
	}
	l.known[of] = s.Hosts
	return s.Hosts
}
