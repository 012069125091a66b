package authn

import (
	"net/http"

	"bindery/api"
)

// Every answer has these: they are made once.
var anyOrigin, exposed = []string{"*"}, []string{"Link, Retry-After, X-Request-Id"}

// preflight lets scripts of any web site read the answer, as the service of old
// does, and answers the question that browsers ask first (Fetch standard, "CORS-preflight
// request"). A site gains nothing by it: browsers send neither client certificates nor
// stored credentials to an origin that is allowed as "*".
func preflight(c *api.Call) bool {
	h, asked := c.Header(), c.R.Header
	h["Access-Control-Allow-Origin"] = anyOrigin
	if c.R.Method != http.MethodOptions || asked.Get("Origin") == "" || asked.Get("Access-Control-Request-Method") == "" {
		h["Access-Control-Expose-Headers"] = exposed
		return false
	}
	h["Access-Control-Allow-Methods"] = []string{"GET, POST, PUT, DELETE"}
	h["Access-Control-Allow-Headers"] = []string{"Authorization, Content-Type, X-Api-Key, X-Request-Id, X-Requested-With"}
	h["Access-Control-Max-Age"] = []string{"86400"}
	c.Raw(http.StatusOK, "", nil)
	return true
}
