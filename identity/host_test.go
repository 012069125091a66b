package identity_test

import (
	"context"
	"crypto/x509"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bindery/identity"
)

// A nameServer answers PTR and A questions over UDP, out of two maps.
type nameServer struct {
	asked    atomic.Int64
	resolver *net.Resolver
}

func newNameServer(t testing.TB, names, addresses map[string]string) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	mustDo(t, err)
	t.Cleanup(func() { conn.Close() })
	s := &nameServer{}
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			s.asked.Add(1)
			if _, err := conn.WriteTo(answer(b[:n], names, addresses), from); err != nil {
				return
			}
		}
	}()
	s.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	return s
}

// answer writes a DNS answer (RFC 1035, section 4) to a query of one question.
func answer(query []byte, names, addresses map[string]string) []byte {
	var labels []string
	at := 12
	for query[at] != 0 {
		labels = append(labels, string(query[at+1:at+1+int(query[at])]))
		at += 1 + int(query[at])
	}
	question := query[12 : at+5]
	kind := binary.BigEndian.Uint16(query[at+1:])
	var data []byte
	name := strings.Join(labels, ".")
	if host := names[name]; kind == 12 && host != "" {
		for label := range strings.SplitSeq(host, ".") {
			data = append(append(data, byte(len(label))), label...)
		}
		data = append(data, 0)
	} else if addr := addresses[name]; kind == 1 && addr != "" {
		data = netip.MustParseAddr(addr).AsSlice()
	}
	reply := append([]byte{query[0], query[1], 0x84, 0x00, 0, 1, 0, 0, 0, 0, 0, 0}, question...)
	switch {
	case data != nil:
		reply[7] = 1
		reply = append(reply, 0xc0, 12, byte(kind>>8), byte(kind), 0, 1, 0, 0, 0, 60, byte(len(data)>>8), byte(len(data)))
		reply = append(reply, data...)
	case addresses[name] == "":
		reply[3] = 3 // no such name
	}
	return reply
}

func TestCheckHost(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	dns := newNameServer(t,
		map[string]string{"7.2.0.192.in-addr.arpa": "robot.example", "8.2.0.192.in-addr.arpa": "robot.example", "9.2.0.192.in-addr.arpa": "nowhere.example"},
		map[string]string{"robot.example": "192.0.2.7"})
	host := func(names ...string) change { return func(c *x509.Certificate) { c.DNSNames = names } }
	w := newWorld(t, []*signer{root}, func(o *identity.CertificateOptions) { o.CheckHost, o.Resolver = true, dns.resolver })
	right, wild := root.leaf(t, "r", host("robot.example")), root.leaf(t, "w", host("*.example"))
	wrong, none := root.leaf(t, "x", host("other.example")), root.leaf(t, "robot.example")
	literal := root.leaf(t, "ip", func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("192.0.2.9")} })
	noName := func(addr string) string {
		return "Your certificate could not be compared with the connecting host. The address " + addr + " has no name that leads back to it"
	}
	const mismatch = "Your certificate is not valid for the connecting host robot.example. It is valid for: "
	tests := map[string]struct {
		who  *signer
		from string
		want string
	}{
		"its name":                            {right, "192.0.2.7", ""},
		"its name, IPv4 in IPv6":              {right, "::ffff:192.0.2.7", ""},
		"a wildcard":                          {wild, "192.0.2.7", ""},
		"another name":                        {wrong, "192.0.2.7", mismatch + "other.example"},
		"a common name only":                  {none, "192.0.2.7", mismatch + "no host"},
		"a name that does not lead back":      {right, "192.0.2.8", noName("192.0.2.8")},
		"a name that leads nowhere":           {right, "192.0.2.9", noName("192.0.2.9")},
		"no name":                             {right, "192.0.2.10", noName("192.0.2.10")},
		"its address, whatever the name says": {literal, "192.0.2.9", ""},
		"no address":                          {right, "", "Your certificate could not be compared with the connecting host"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr, _ := netip.ParseAddr(test.from)
			_, err := w.Prove(t.Context(), test.who.chain(), addr)
			check(t, err, test.want)
		})
	}
}

func TestAddressesAreRemembered(t *testing.T) {
	t.Parallel()
	root := newCA(t, "Root")
	dns := newNameServer(t, map[string]string{"7.2.0.192.in-addr.arpa": "robot.example"}, map[string]string{"robot.example": "192.0.2.7"})
	w := newWorld(t, []*signer{root}, func(o *identity.CertificateOptions) { o.CheckHost, o.Resolver = true, dns.resolver })
	leaf := root.leaf(t, "r", func(c *x509.Certificate) { c.DNSNames = []string{"robot.example"} })
	prove := func() int64 {
		_, err := w.Prove(t.Context(), leaf.chain(), netip.MustParseAddr("192.0.2.7"))
		check(t, err, "")
		return dns.asked.Load()
	}
	first := prove()
	if again := prove(); again != first {
		t.Errorf("%d questions, and then %d", first, again)
	}
	w.clock.add(6 * time.Minute)
	if later := prove(); later == first {
		t.Error("after some minutes it is asked again")
	}
}
