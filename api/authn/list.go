package authn

import (
	"context"
	"encoding/json"
	"io"
	"net/url"
	"strconv"

	"bindery"
	"bindery/api"
)

const (
	// maxLimit is the most that a client may ask for at a time.
	maxLimit = 1000
	// pageSize is how much of a whole list is in memory at a time.
	pageSize = 500
)

// A table is what a list is made of.
type table[R, T any] struct {
	name string // the key in the answer
	page func(context.Context, bindery.Page) ([]R, error)
	row  func(R) int64
	show func(R) (T, error)
}

// list answers with all of a table, page by page as it is read, or with the
// part that "limit" and "after" name, and then with a link to the next one
// (RFC 8288). The bytes are those of json.MarshalIndent of the whole.
func list[R, T any](c *api.Call, t table[R, T]) error {
	query := c.R.URL.Query()
	p, limited, err := pageOf(query)
	if err != nil {
		return err
	}
	ctx, s := c.R.Context(), c.Stream(contentType)
	before, after := "{\n \""+t.name+"\": [\n  ", "]\n}"
	for {
		rows, err := t.page(ctx, p)
		if err != nil {
			return s.Fail(err)
		}
		last := len(rows) < p.Limit
		if !last {
			p.After = t.row(rows[len(rows)-1])
		}
		if limited && !last {
			c.Header()["Link"] = []string{next(c.R.URL, query, p)}
		}
		for _, r := range rows {
			if more, err := item(s, before, r, t.show); !more {
				return err
			}
			before, after = ",\n  ", "\n ]\n}"
		}
		if limited || last {
			break
		}
	}
	if after[0] == ']' { // there was nothing
		after = "{\n \"" + t.name + "\": " + "[" + after
	}
	_, _ = io.WriteString(s, after)
	s.Close()
	return nil
}

// item writes one object of a list. Where that was the last, because it failed
// or because the caller went away or asked for the header only, the answer has ended.
func item[R, T any](s *api.Stream, before string, r R, show func(R) (T, error)) (more bool, err error) {
	v, err := show(r)
	if err != nil {
		return false, s.Fail(err)
	}
	b, err := json.MarshalIndent(v, "  ", " ")
	if err != nil {
		return false, s.Fail(err)
	}
	if _, err := s.Write(append([]byte(before), b...)); err != nil {
		s.Close()
		return false, nil //nolint:nilerr // nobody is left to tell
	}
	return true, nil
}

// pageOf reads the query: the page to begin with, and whether it is the only one.
func pageOf(query url.Values) (p bindery.Page, limited bool, err error) {
	p.Limit = pageSize
	if s := query.Get("limit"); s != "" {
		if p.Limit, err = strconv.Atoi(s); err != nil || p.Limit < 1 || p.Limit > maxLimit {
			return p, false, refuse("limit must be 1 to " + strconv.Itoa(maxLimit))
		}
		limited = true
	}
	if s := query.Get("after"); s != "" {
		if p.After, err = strconv.ParseInt(s, 10, 64); err != nil || p.After < 0 {
			return p, false, refuse("after must be a number, as the link to the next page has it")
		}
	}
	return p, limited, nil
}

// next is the link to the next page. It does not repeat the key, which the
// client sends again as it did.
func next(u *url.URL, query url.Values, p bindery.Page) string {
	q := url.Values{"limit": {strconv.Itoa(p.Limit)}, "after": {strconv.FormatInt(p.After, 10)}}
	if id := query.Get("authID"); id != "" {
		q.Set("authID", id)
	}
	return "<" + u.EscapedPath() + "?" + q.Encode() + `>; rel="next"`
}
