package rabbitmq

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"bindery"
)

// What follows is the beginning of AMQP 0-9-1 (sections 2.2.4 and 4.2 of its
// specification), as far as the answer to a user and a password. A client library
// would do, if it told what was refused: unless a client has the capability
// authentication_failure_close, a broker just hangs up, which could mean anything.

// A refusal is a broker's connection.close.
type refusal struct {
	code uint16
	text string
}

// The methods of the class connection that matter here.
const (
	classConnection = 10
	methodStart     = 10
	methodStartOK   = 11
	methodTune      = 30
	methodClose     = 50

	frameMethod = 1
	frameEnd    = 0xCE
	// frameLimit is many times what a broker sends before the frame size is agreed upon.
	frameLimit = 64 << 10
)

// greet logs in, and returns nil where the broker took the user and the password,
// or its refusal. An error means that it said neither.
func greet(conn io.ReadWriter, user string, password bindery.Secret) (*refusal, error) {
	in := bufio.NewReader(conn)
	if _, err := io.WriteString(conn, "AMQP\x00\x00\x09\x01"); err != nil {
		return nil, err
	}
	if _, err := readMethod(in, methodStart); err != nil {
		return nil, err
	}
	if _, err := conn.Write(startOK(user, password)); err != nil {
		return nil, err
	}
	m, err := readMethod(in, methodTune, methodClose)
	if err != nil || m.id == methodTune {
		return nil, err
	}
	// reply-code, and reply-text as a short string
	if len(m.arguments) < 3 || len(m.arguments) < 3+int(m.arguments[2]) {
		return nil, errors.New("the broker's connection.close is too short")
	}
	return &refusal{
		code: binary.BigEndian.Uint16(m.arguments),
		text: string(m.arguments[3 : 3+int(m.arguments[2])]),
	}, nil
}

// A method is one of the class connection.
type method struct {
	id        uint16
	arguments []byte
}

// readMethod reads a frame with one of the methods.
func readMethod(in io.Reader, expected ...uint16) (method, error) {
	var header [7]byte // type, channel, size
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return method{}, err
	}
	size := binary.BigEndian.Uint32(header[3:])
	if header[0] != frameMethod || header[1] != 0 || header[2] != 0 || size < 4 || size > frameLimit {
		return method{}, errors.New("the broker's frame is not one that was expected")
	}
	frame := make([]byte, size+1)
	if _, err := io.ReadFull(in, frame); err != nil {
		return method{}, err
	}
	if frame[size] != frameEnd {
		return method{}, errors.New("the broker's frame does not end")
	}
	class, id := binary.BigEndian.Uint16(frame), binary.BigEndian.Uint16(frame[2:])
	for _, e := range expected {
		if class == classConnection && id == e {
			return method{id: id, arguments: frame[4:size]}, nil
		}
	}
	return method{}, fmt.Errorf("the broker sent method %d of class %d", id, class)
}

// startOK is the frame with the login.
func startOK(user string, password bindery.Secret) []byte {
	capabilities := append(shortString("authentication_failure_close"), 't', 1)
	properties := append(shortString("capabilities"), 'F')
	properties = append(properties, longString(capabilities)...)

	var b []byte
	b = binary.BigEndian.AppendUint16(b, classConnection)
	b = binary.BigEndian.AppendUint16(b, methodStartOK)
	b = append(b, longString(properties)...) // a table has its length before it, as a long string does
	b = append(b, shortString("PLAIN")...)
	b = append(b, longString([]byte("\x00"+user+"\x00"+password.Reveal()))...)
	b = append(b, shortString("en_US")...)

	frame := []byte{frameMethod, 0, 0}
	frame = append(frame, longString(b)...)
	return append(frame, frameEnd)
}

// shortString is for constants, which are short.
func shortString(s string) []byte { return append([]byte{byte(len(s))}, s...) } //nolint:gosec // see above

func longString(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) //nolint:gosec // names and passwords are short
}
