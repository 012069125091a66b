package client

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"bindery"
)

// Admin is a client of Bindery's own API, /admin/v1. It may be used by many
// goroutines and must not be copied after its first use.
type Admin struct {
	URL   string // without /admin/v1
	Token bindery.Secret
	HTTP  *http.Client // nil: one of its own, as NewHTTP makes it
	// PageSize is how many items one request asks for; 0: the server's choice.
	PageSize int

	pool pool
}

func (c *Admin) call(ctx context.Context, r request, out any) error {
	r.base, r.path = c.URL, "/admin/v1"+r.path
	if r.accept == nil {
		r.accept = []int{http.StatusOK}
	}
	r.prepare = func(req *http.Request) {
		if !c.Token.Empty() {
			req.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
		}
	}
	_, _, err := c.pool.send(ctx, c.HTTP, r, out)
	return err
}

// list walks a paged list. The error, if any, comes last.
func list[T any](ctx context.Context, c *Admin, path string, query url.Values) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		for after := ""; ; {
			var page struct {
				Items []T    `json:"items"`
				Next  string `json:"next"`
			}
			q := url.Values{}
			for k, v := range query {
				if v[0] != "" {
					q[k] = v
				}
			}
			if after != "" {
				q.Set("after", after)
			}
			if c.PageSize > 0 {
				q.Set("limit", strconv.Itoa(c.PageSize))
			}
			if err := c.call(ctx, request{method: http.MethodGet, path: path, query: q}, &page); err != nil {
				yield(none, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			if page.Next == after {
				yield(none, bindery.Errorf(bindery.CodeInternal, "the list does not go on after %q", after))
				return
			}
			after = page.Next
		}
	}
}
