package authn

import (
	"net/http"

	"bindery/api"
)

// Version is what /v1/version says. Release is for callers with a key.
type Version struct {
	BuildTime    string `json:"build_time"`
	Go           string `json:"golang"`
	Compiler     string `json:"compiler"`
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Release      string `json:"release,omitempty"`
	Distro       string `json:"distro"`
}

func (h *Handler) version(c *api.Call) error {
	v := h.Version
	by, sent, ok := h.Keys.Check(c.R)
	switch {
	case ok:
		c.Caller = by.Name
	case sent:
		// Or keys could be guessed here without end.
		if err := h.failed(c, errWrongKey); err != errWrongKey { //nolint:errorlint // that very one, or that there were too many
			return err
		}
		fallthrough
	default:
		v.Release = ""
	}
	return answer(c, http.StatusOK, v, nil)
}

func health(c *api.Call) error {
	c.Raw(http.StatusOK, contentType, []byte("null"))
	return nil
}
