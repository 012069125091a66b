package given

import (
	"encoding/json"
	"errors"
	"fmt"

	"bindery"
)

// Static hands out one set to every binding: a log drain, a route service, a
// shared volume, a service with one key. The set is the server's secret "credential".
var Static = bindery.Kind{
	Open:             openStatic,
	Local:            true,
	Shared:           true,
	CheckServer:      noServerSettings,
	CheckPlan:        checkPlan,
	CheckSecrets:     checkStatic,
	Revocation:       released,
	CredentialSchema: credentialSchema,
	Schemas:          noSchemas,
}

const secretCredential = "credential"

type static struct {
	nothing
	set set
}

func openStatic(s bindery.Server) (bindery.Driver, error) {
	one, err := parseSet(s.Secrets[secretCredential])
	if err != nil {
		return nil, err
	}
	return &static{nothing{s.Installation}, one}, nil
}

func checkStatic(password bindery.Secret, secrets map[string]bindery.Secret) error {
	if err := onlySecrets(password, secrets, secretCredential); err != nil {
		return err
	}
	_, err := parseSet(secrets[secretCredential])
	return err
}

// onlySecrets refuses secrets that a kind would take no notice of.
func onlySecrets(password bindery.Secret, secrets map[string]bindery.Secret, known ...string) error {
	if !password.Empty() {
		return errors.New("this kind has no password, only secrets")
	}
	left := len(secrets)
	for _, name := range known {
		if _, ok := secrets[name]; ok {
			left--
		}
	}
	if left > 0 {
		return fmt.Errorf("this kind knows no secrets but %q", known)
	}
	return nil
}

func parseSet(s bindery.Secret) (one set, err error) {
	if s.Empty() {
		return one, fmt.Errorf("the secret %s is missing", secretCredential)
	}
	if err = decode(s.Reveal(), &one); err == nil {
		err = one.check()
	}
	if err != nil {
		return set{}, fmt.Errorf("the secret %s: %w", secretCredential, err)
	}
	return one, nil
}

func noServerSettings(raw json.RawMessage) error {
	return bindery.Settings(nil).Read("server settings", raw)
}

// Prepare implements [bindery.AccountDriver].
func (d *static) Prepare(_ bindery.InstanceSpec, req bindery.AccountRequest) (bindery.Secret, error) {
	return bindery.NewSecret(`{}`), noParameters(req.Parameters)
}

// Render implements [bindery.AccountDriver]. What it shows is what is configured
// now, not what was when the binding was made: there is only one set.
func (d *static) Render(bindery.InstanceSpec, bindery.Account) (bindery.Credential, error) {
	return d.set.render(), nil
}
