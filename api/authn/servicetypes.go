package authn

import (
	"context"
	"net/http"

	"bindery"
	"bindery/api"
)

func (h *Handler) createServiceType(c *api.Call) error {
	in, err := readServiceType(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c)
	defer cancel()
	s, err := h.Service.CreateServiceType(ctx, caller(c), in)
	if err != nil {
		return err
	}
	out, err := showServiceType(s)
	return answer(c, http.StatusCreated, out, err)
}

func (h *Handler) serviceTypes(c *api.Call) error {
	by := caller(c)
	return list(c, table[bindery.ServiceType, serviceType]{
		name: "service_types",
		page: func(ctx context.Context, p bindery.Page) ([]bindery.ServiceType, error) {
			return h.Service.ServiceTypes(ctx, by, p)
		},
		row:  func(s bindery.ServiceType) int64 { return s.Row },
		show: showServiceType,
	})
}

func (h *Handler) serviceType(c *api.Call) error {
	s, err := h.Service.ServiceType(c.R.Context(), caller(c), sought(c, "name"))
	if err != nil {
		return err
	}
	out, err := showServiceType(s)
	return answer(c, http.StatusOK, out, err)
}

func (h *Handler) updateServiceType(c *api.Call) error {
	in, err := readServiceType(c)
	if err != nil {
		return err
	}
	ctx, cancel := detached(c)
	defer cancel()
	s, err := h.Service.UpdateServiceType(ctx, caller(c), sought(c, "name"), in)
	if err != nil {
		return err
	}
	out, err := showServiceType(s)
	return answer(c, http.StatusOK, out, err)
}

func (h *Handler) deleteServiceType(c *api.Call) error {
	ctx, cancel := detached(c)
	defer cancel()
	return done(c, h.Service.DeleteServiceType(ctx, caller(c), sought(c, "name")))
}
