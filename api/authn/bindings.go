package authn

import (
	"context"
	"net/http"

	"bindery"
	"bindery/api"
)

func (h *Handler) createBinding(c *api.Call) error {
	in, err := readBinding(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c)
	defer cancel()
	var own *bindery.Identity
	if in.Identifier == nil {
		if own, err = h.own(ctx, c); err != nil {
			return err
		}
	}
	b, err := h.Service.CreateBinding(ctx, caller(c), c.Param("name"), in, own)
	if err != nil {
		return err
	}
	out, err := showBinding(b)
	return answer(c, http.StatusCreated, out, err)
}

// own is the identity of a caller that has a certificate beside its key; nil
// where it has none that proves anybody.
func (h *Handler) own(ctx context.Context, c *api.Call) (*bindery.Identity, error) {
	chain := certificates(c)
	if len(chain) == 0 || h.Certificates == nil {
		return nil, nil
	}
	id, err := h.Certificates.Prove(ctx, chain, remote(c))
	switch bindery.CodeOf(err) {
	case "":
		return &id, nil
	case bindery.CodeForbidden, bindery.CodeUnauthorized, bindery.CodeInvalid:
		return nil, nil // the binding then has no identifier, and that is the answer
	default:
		return nil, err
	}
}

func (h *Handler) binding(c *api.Call) error {
	b, err := h.Service.Binding(c.R.Context(), caller(c), sought(c, "name"))
	if err != nil {
		return err
	}
	out, err := showBinding(b)
	return answer(c, http.StatusOK, out, err)
}

func (h *Handler) updateBinding(c *api.Call) error {
	in, err := readBinding(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c)
	defer cancel()
	b, err := h.Service.UpdateBinding(ctx, caller(c), sought(c, "name"), in)
	if err != nil {
		return err
	}
	out, err := showBinding(b)
	return answer(c, http.StatusOK, out, err)
}

func (h *Handler) deleteBinding(c *api.Call) error {
	ctx, cancel := detached(c)
	defer cancel()
	return done(c, h.Service.DeleteBinding(ctx, caller(c), sought(c, "name")))
}

func (h *Handler) bindings(c *api.Call) error {
	by := caller(c)
	return listBindings(c, func(ctx context.Context, p bindery.Page) ([]bindery.IdentityBinding, error) {
		return h.Service.Bindings(ctx, by, p)
	})
}

func (h *Handler) bindingsOf(c *api.Call) error {
	by, service, host := caller(c), sought(c, "name"), sought(c, "host")
	id := c.R.URL.Query().Get("authID")
	return listBindings(c, func(ctx context.Context, p bindery.Page) ([]bindery.IdentityBinding, error) {
		return h.Service.BindingsOf(ctx, by, service, host, id, p)
	})
}

func listBindings(c *api.Call, page func(context.Context, bindery.Page) ([]bindery.IdentityBinding, error)) error {
	return list(c, table[bindery.IdentityBinding, binding]{
		name: "bindings",
		page: page,
		row:  func(b bindery.IdentityBinding) int64 { return b.Row },
		show: showBinding,
	})
}
