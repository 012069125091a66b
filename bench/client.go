package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A conn is one kept-alive HTTP connection, used by one client. The client of
// net/http would take a good part of what is measured: it hands each request
// through three goroutines.
type conn struct {
	net.Conn
	in  *bufio.Reader
	out []byte
}

// callLimit bounds one call.
const callLimit = 60 * time.Second

func dial(ctx context.Context, address string) (*conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReader(c)}, nil
}

// call sends a request that ends with tail, and checks the status of the answer.
func (c *conn) call(method string, path []byte, tail []byte, want int) ([]byte, error) {
	c.out = append(c.out[:0], method...)
	c.out = append(c.out, ' ')
	c.out = append(c.out, path...)
	c.out = append(c.out, tail...)
	if err := c.SetDeadline(time.Now().Add(callLimit)); err != nil {
		return nil, err
	}
	if _, err := c.Write(c.out); err != nil {
		return nil, err
	}
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(answer.Body)
	_ = answer.Body.Close() // all of it was read
	if err == nil && answer.StatusCode != want {
		err = fmt.Errorf("%s %s: %s: %s", method, path, answer.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// tail is what every request ends with: headers, and a body unless it is nil.
func (s *service) tail(body any) ([]byte, error) {
	basic := base64.StdEncoding.EncodeToString([]byte(platform + ":" + s.password))
	out := fmt.Appendf(nil, " HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\nX-Broker-API-Version: 2.17\r\n", s.address, basic)
	if body == nil {
		return append(out, "\r\n"...), nil
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	out = append(out, "Content-Type: application/json\r\nContent-Length: "+strconv.Itoa(len(encoded))+"\r\n\r\n"...)
	return append(out, encoded...), nil
}

// overHTTP binds and unbinds through Bindery.
type overHTTP struct {
	service   *service
	kind      *kind
	instances []string
	conns     []*conn
	bind      []byte // the end of a bind
	unbind    []byte // the end of an unbind
	query     string
}

func (h *overHTTP) name() string { return "Bindery, " + h.kind.name + ", " + h.service.name }

func (h *overHTTP) connect(ctx context.Context, clients int) (err error) {
	h.query = "?service_id=" + h.kind.offering() + "&plan_id=" + h.kind.plan()
	if h.bind, err = h.service.tail(map[string]any{
		"service_id": h.kind.offering(), "plan_id": h.kind.plan(),
		"bind_resource": map[string]string{"app_guid": guid(1)},
		"context":       map[string]string{"platform": "cloudfoundry"},
	}); err != nil {
		return err
	}
	if h.unbind, err = h.service.tail(nil); err != nil {
		return err
	}
	for range clients {
		c, err := dial(ctx, h.service.address)
		if err != nil {
			return err
		}
		h.conns = append(h.conns, c)
	}
	return nil
}

func (h *overHTTP) disconnect() {
	for _, c := range h.conns {
		_ = c.Close() // everything was answered
	}
	h.conns = nil
}

func (h *overHTTP) path(serial int64) []byte {
	out := append(make([]byte, 0, 256), "/v2/service_instances/"...)
	out = append(out, h.instances[serial%int64(len(h.instances))]...)
	out = append(out, "/service_bindings/"...)
	return append(out, guid(serial)...)
}

func (h *overHTTP) create(_ context.Context, client int, serial int64) error {
	_, err := h.conns[client].call(http.MethodPut, h.path(serial), h.bind, http.StatusCreated)
	return err
}

func (h *overHTTP) remove(_ context.Context, client int, serial int64) error {
	_, err := h.conns[client].call(http.MethodDelete, append(h.path(serial), h.query...), h.unbind, http.StatusOK)
	return err
}

// provision makes the instances that bindings are made of.
func (h *overHTTP) provision(ctx context.Context) error {
	c, err := dial(ctx, h.service.address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // everything was answered
	tail, err := h.service.tail(map[string]any{
		"service_id": h.kind.offering(), "plan_id": h.kind.plan(),
		"organization_guid": guid(2), "space_guid": guid(3),
	})
	if err != nil {
		return err
	}
	for range instancesOfKind {
		id := guid(serials.Add(1))
		if _, err := c.call(http.MethodPut, []byte("/v2/service_instances/"+id), tail, http.StatusCreated); err != nil {
			return err
		}
		h.instances = append(h.instances, id)
	}
	return nil
}

// instancesOfKind is among how many instances the bindings are spread.
const instancesOfKind = 16

// guid makes an id of a number, spread over an index as platforms' random ones are.
func guid(n int64) string {
	x := uint64(n) * 0x9e3779b97f4a7c15
	x ^= x >> 31
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", x>>32, x>>16&0xffff, x&0xfff, x>>20&0xfff, uint64(n)&(1<<48-1))
}
