package rabbitmq

import (
	"io"

	"bindery"
)

// What the tests see of the inside.
var (
	LoginPrefix = loginPrefix
	Path        = path
	Hash        = hash
)

// Greet logs in; the code is 0 where that went well.
func Greet(conn io.ReadWriter, user string, password bindery.Secret) (code uint16, text string, err error) {
	said, err := greet(conn, user, password)
	if said == nil {
		return 0, "", err
	}
	return said.code, said.text, err
}
