package bindery

import (
	"net"
	"strconv"
)

// CompletePublic takes from Address what Public does not say. Errors: CodeInvalid
// for an Address that is not host:port.
func (s *Server) CompletePublic() error {
	host, port, err := net.SplitHostPort(s.Address)
	n, numberErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numberErr != nil || n == 0 || host == "" {
		return Errorf(CodeInvalid, "the address must be host:port").Because(err)
	}
	if s.Public.Host == "" {
		s.Public.Host = host
	}
	if s.Public.Port == 0 {
		s.Public.Port = int(n)
	}
	return nil
}
