package api

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// A Route is a method and a pattern such as "/v2/things/{thing}". A segment in
// braces matches any one segment of the path, an empty one included (the face
// refuses it with a better text than "not found"); one such as "{thing}:verb"
// matches what ends in ":verb".
type Route struct {
	Method, Pattern string
	Serve           func(*Call) error
}

// A Router finds routes. It is written here and not taken from net/http
// because ids in these paths are whatever a platform says, percent-encoded:
// http.ServeMux answers "..", "//" and the like with redirects of its own, and its 404
// and 405 are plain text. Matching a dozen patterns segment by segment is exact
// and shorter than working around that.
type Router struct{ routes []compiled }

type compiled struct {
	Route
	segments []segment
}

// A segment is a literal, or a parameter and what must follow it.
type segment struct{ param, literal string }

// NewRouter takes the routes in the order in which they are tried.
func NewRouter(routes ...Route) *Router {
	rt := &Router{}
	for _, r := range routes {
		var segments []segment
		for s := range strings.SplitSeq(strings.TrimPrefix(r.Pattern, "/"), "/") {
			name, suffix, _ := strings.Cut(s, "}")
			if name, ok := strings.CutPrefix(name, "{"); ok {
				segments = append(segments, segment{name, suffix})
			} else {
				segments = append(segments, segment{literal: s})
			}
		}
		rt.routes = append(rt.routes, compiled{r, segments})
	}
	return rt
}

// longest is the number of segments that a path can have and still match something.
const longest = 8

// Serve finds the route and serves it. Errors: CodeNotFound; a [Refusal] with
// 405 for a path that knows other methods only; whatever the route returns.
// HEAD is served wherever GET is.
func (rt *Router) Serve(c *Call) error {
	var buf [longest]string
	path, ok := split(c.R.URL.EscapedPath(), buf[:0])
	if !ok {
		return errNoRoute
	}
	want := c.R.Method
	if want == http.MethodHead {
		want = http.MethodGet
	}
	var allow []string
	for i := range rt.routes {
		r := &rt.routes[i]
		if !r.match(path) {
			continue
		}
		if r.Method != want {
			allow = append(allow, r.Method)
			if r.Method == http.MethodGet {
				allow = append(allow, http.MethodHead)
			}
			continue
		}
		c.Route = r.Pattern
		for i, s := range r.segments {
			if s.param != "" {
				c.params[c.nparams] = param{s.param, strings.TrimSuffix(path[i], s.literal)}
				c.nparams++
			}
		}
		return r.Serve(c)
	}
	if allow == nil {
		return errNoRoute
	}
	slices.Sort(allow)
	c.Header().Set("Allow", strings.Join(allow, ", "))
	return &Refusal{Status: http.StatusMethodNotAllowed, Message: "this path does not know this method"}
}

func (r *compiled) match(path []string) bool {
	if len(path) != len(r.segments) {
		return false
	}
	for i, s := range r.segments {
		if s.param == "" && s.literal != path[i] || !strings.HasSuffix(path[i], s.literal) {
			return false
		}
	}
	return true
}

// split cuts an escaped path at its slashes and decodes each segment, so that
// an encoded slash is part of an id. ok is false for what can match nothing.
func split(path string, into []string) (segments []string, ok bool) {
	path, ok = strings.CutPrefix(path, "/")
	for more := ok; more; {
		var s string
		s, path, more = strings.Cut(path, "/")
		if len(into) == cap(into) {
			return nil, false
		}
		if s, ok = unescape(s); !ok {
			return nil, false
		}
		into = append(into, s)
	}
	return into, ok
}

func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	s, err := url.PathUnescape(s)
	return s, err == nil
}
