package authn

import (
	"context"
	"net/http"

	"bindery"
	"bindery/api"
)

func (h *Handler) createAuthMethod(c *api.Call) error {
	in, err := readAuthMethod(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c)
	defer cancel()
	m, err := h.Service.CreateAuthMethod(ctx, caller(c), sought(c, "name"), in)
	if err != nil {
		return err
	}
	out, err := showAuthMethod(m)
	return answer(c, http.StatusCreated, out, err)
}

func (h *Handler) authMethod(c *api.Call) error {
	m, err := h.Service.AuthMethod(c.R.Context(), caller(c), sought(c, "name"), sought(c, "host"))
	if err != nil {
		return err
	}
	out, err := showAuthMethod(m)
	return answer(c, http.StatusOK, out, err)
}

func (h *Handler) updateAuthMethod(c *api.Call) error {
	in, err := readAuthMethod(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c)
	defer cancel()
	m, err := h.Service.UpdateAuthMethod(ctx, caller(c), sought(c, "name"), sought(c, "host"), in)
	if err != nil {
		return err
	}
	out, err := showAuthMethod(m)
	return answer(c, http.StatusOK, out, err)
}

func (h *Handler) deleteAuthMethod(c *api.Call) error {
	ctx, cancel := detached(c)
	defer cancel()
	return done(c, h.Service.DeleteAuthMethod(ctx, caller(c), sought(c, "name"), sought(c, "host")))
}

func (h *Handler) authMethods(c *api.Call) error {
	by := caller(c)
	return list(c, table[bindery.AuthMethod, authMethod]{
		name: "auth_methods",
		page: func(ctx context.Context, p bindery.Page) ([]bindery.AuthMethod, error) {
			return h.Service.AuthMethods(ctx, by, p)
		},
		row:  func(m bindery.AuthMethod) int64 { return m.Row },
		show: showAuthMethod,
	})
}
