package authn

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"bindery"
	"bindery/api"
	"bindery/exchange"
)

// What clients send. Each is the exchange's own input with names for its fields;
// encoding/json matches them without regard to case and ignores others,
// which clients of old rely on.
type (
	serviceTypeBody struct {
		Name       *string   `json:"name"`
		Hosts      *[]string `json:"hosts"`
		AuthTypes  *[]string `json:"auth_types"`
		AuthMethod *string   `json:"auth_method"`
		Type       *string   `json:"type"`
	}
	authMethodBody struct {
		ServiceUUID *string            `json:"service_uuid"`
		Host        *string            `json:"host"`
		Port        *int               `json:"port"`
		AccessKey   *string            `json:"access_key"`
		Headers     *map[string]string `json:"headers"`
	}
	bindingBody struct {
		Name        *string `json:"name"`
		ServiceUUID *string `json:"service_uuid"`
		Host        *string `json:"host"`
		AuthType    *string `json:"auth_type"`
		Identifier  *string `json:"auth_identifier"`
		UniqueKey   *string `json:"unique_key"`
		Issuer      *string `json:"issuer"`
	}
)

func readServiceType(c *api.Call) (exchange.ServiceTypeInput, error) {
	in, err := read[serviceTypeBody](c)
	return exchange.ServiceTypeInput(in), err
}

func readAuthMethod(c *api.Call) (exchange.AuthMethodInput, error) {
	in, err := read[authMethodBody](c)
	return exchange.AuthMethodInput(in), err
}

func readBinding(c *api.Call) (exchange.BindingInput, error) {
	in, err := read[bindingBody](c)
	return exchange.BindingInput(in), err
}

// read takes the body for a JSON object, whatever its content type says: curl -d
// calls everything a form. Errors: a 400 with a reason that quotes nothing of what was sent; CodeTooLarge.
func read[T any](c *api.Call) (in T, err error) {
	body, err := c.Body()
	if bindery.CodeOf(err) == bindery.CodeInvalid {
		return in, poor(bindery.MessageOf(err))
	}
	if err != nil {
		return in, err
	}
	return parse[T](body)
}

func parse[T any](body []byte) (in T, err error) {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return in, poor("the body is empty")
	case !utf8.Valid(body):
		return in, poor("the body is not UTF-8")
	case string(body) == "null":
		return in, poor("the body must be an object")
	}
	err = json.Unmarshal(body, &in)
	if err == nil {
		return in, nil
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if e.Field == "" {
			return in, poor("the body must be an object")
		}
		return in, poor(e.Field + " must be " + kind(e.Type) + ", and is " + got(e.Value))
	}
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		return in, poor("the body is not valid JSON, as seen at byte " + strconv.FormatInt(e.Offset, 10))
	}
	return in, poor("the body is not valid JSON")
}

// kind names what a field, or a value within it, has to be.
func kind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Int:
		return "a whole number"
	case reflect.Slice:
		return "an array of strings"
	case reflect.Map:
		return "an object of strings"
	default:
		return "a string"
	}
}

// got names what was sent in its stead: encoding/json adds some values to their type.
func got(value string) string {
	word, literal, _ := strings.Cut(value, " ")
	switch {
	case literal != "":
		return "another number"
	case word == "array" || word == "object":
		return "an " + word
	}
	return "a " + word
}
