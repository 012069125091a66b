package exchange

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"bindery"
)

// Bounds of what administrators send. The old service had none.
const (
	maxName       = 256
	maxHosts      = 1000
	maxIdentifier = 4096
	maxUniqueKey  = 1024
	maxMaterial   = 32 << 10
)

// The objects, as error texts name them.
const (
	objServiceType = "service-type"
	objAuthMethod  = "auth method"
	objBinding     = "binding"
)

func invalid(format string, args ...any) *bindery.Error {
	return bindery.Errorf(bindery.CodeInvalid, format, args...)
}

func empty(object, field string) error {
	return invalid("%s object contains empty fields. empty value for field: %s", object, field)
}

func unsupported[T any](what, value string, supported []T) error {
	if why := unfit(value, maxName); why != "" {
		value = "a value that " + why // and is not worth repeating
	}
	return invalid("%s: %s is not yet supported.Supported:%s", what, value, fmt.Sprint(supported))
}

// wrong is for values that the old service took, and could not use or reach.
func wrong(object, field, why string) error {
	return invalid("%s object contains an invalid value for field: %s. It %s", object, field, why)
}

// A field is what somebody sent of a text field, and its name.
type field struct {
	name  string
	value *string
	max   int
}

// given checks the fields that were sent; at a creation, that all were.
func given(object string, creation bool, fields ...field) error {
	for _, f := range fields {
		if f.value == nil && !creation {
			continue
		}
		if f.value == nil || *f.value == "" {
			return empty(object, f.name)
		}
	}
	for _, f := range fields {
		if f.value == nil {
			continue
		}
		if why := unfit(*f.value, f.max); why != "" {
			return wrong(object, f.name, why)
		}
	}
	return nil
}

// unfit says why a text cannot be kept or shown.
func unfit(v string, limit int) string {
	switch {
	case len(v) > limit:
		return fmt.Sprintf("is longer than %d bytes", limit)
	case !utf8.ValidString(v):
		return "is not UTF-8"
	case strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "has control characters"
	}
	return ""
}

// unreachable says why no path could name what has this name: dots are a way through it.
func unreachable(name string) string {
	if name == "." || name == ".." {
		return "cannot be named in a path"
	}
	return ""
}

// checkHost refuses what could make a URL mean something else.
func checkHost(host string) string {
	if why := cmp.Or(unfit(host, 253), unreachable(host)); why != "" {
		return why
	}
	if _, err := netip.ParseAddr(bare(host)); err != nil && strings.Contains(host, ":") {
		return "is no host name or address"
	}
	u, err := url.Parse("https://" + net.JoinHostPort(bare(host), "443") + "/")
	if err != nil || u.Hostname() != bare(host) || u.Path != "/" || u.User != nil || strings.ContainsAny(host, "%[] ") && bare(host) == host {
		return "is no host name or address"
	}
	return ""
}

// bare takes an IPv6 address out of its brackets.
func bare(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			return inner
		}
	}
	return host
}

// supports is the error for an auth type that a service type lacks.
func supports(t *bindery.ServiceType, auth bindery.AuthType) error {
	if slices.Contains(t.AuthTypes, auth) {
		return nil
	}
	return unsupported("Auth type", string(auth), t.AuthTypes)
}

// changed writes the value that was sent, if one was.
func changed[T any](to *T, sent *T) {
	if sent != nil {
		*to = *sent
	}
}
