package authn

import (
	"net/netip"
	"testing"
	"time"
)

func TestFailuresAreCountedForEachAddress(t *testing.T) {
	t.Parallel()
	f := failures{Limit: Limit{PerMinute: 60, Burst: 3}}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for range 3 {
		if f.count(a, at) != 0 {
			t.Error("it waits too early")
		}
	}
	for range 10 { // who fails on has no longer to wait for it
		if wait := f.count(a, at); wait != time.Second {
			t.Errorf("it waits %v", wait)
		}
	}
	if f.count(b, at) != 0 || f.count(netip.Addr{}, at) != 0 {
		t.Error("another address waits too")
	}
	f.count(netip.MustParseAddr("2001:db8::ffff:1%eth0"), at)
	f.count(netip.MustParseAddr("2001:db8::2"), at)
	if f.count(netip.MustParseAddr("2001:db8::3"), at) == 0 {
		t.Error("a client has many addresses out of its own network")
	}
	if f.count(netip.MustParseAddr("2001:db8:0:1::1"), at) != 0 {
		t.Error("a neighbouring network waits too")
	}
	if f.count(a, at.Add(time.Second)) != 0 || f.count(a, at.Add(time.Second)) == 0 {
		t.Error("a second gives other than one more")
	}

	off := failures{Limit: Limit{Burst: 1, Off: true}}
	for range 5 {
		if off.count(a, at) != 0 {
			t.Error("it counts though it is off")
		}
	}
}

func TestAddressesAreBounded(t *testing.T) {
	t.Parallel()
	f := failures{Limit: Limit{PerMinute: 1, Burst: 2}}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	addr := netip.MustParseAddr("10.0.0.0")
	for range 3 * maxAddresses {
		f.count(addr, at)
		addr = addr.Next()
	}
	if len(f.of) != maxAddresses {
		t.Errorf("%d addresses are remembered", len(f.of))
	}
}
