package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"bindery"
)

// A registration is what the server answered (RFC 7591, section 3.2.1).
type registration struct {
	ClientID     string
	ClientSecret bindery.Secret
	// SecretExpires is zero where the secret does not expire.
	SecretExpires time.Time
	// Token and URI manage the client (RFC 7592).
	Token bindery.Secret
	URI   string
}

// A token is an access token that the server gave out.
type token struct {
	Access  bindery.Secret
	Type    string
	Expires time.Time
}

// material is what an account's secret holds. Prepare makes the request alone.
type material struct {
	Request request
	// Registration is nil before the server has answered.
	Registration *registration
	// Token is nil but in mode token.
	Token *token
	// Endpoints are those that the credential tells of: Render does no I/O.
	TokenEndpoint, AuthorizationEndpoint string
}

// sealed is its JSON. Only the functions below see it.
type sealed struct {
	Request       request       `json:"request"`
	Client        *sealedClient `json:"client,omitempty"`
	Token         *sealedToken  `json:"token,omitempty"`
	TokenURL      string        `json:"token_endpoint,omitempty"`
	Authorization string        `json:"authorization_endpoint,omitempty"`
}

type sealedClient struct {
	ID            string `json:"client_id"`
	Secret        string `json:"client_secret"`
	SecretExpires int64  `json:"client_secret_expires_at"`
	Token         string `json:"registration_access_token"`
	URI           string `json:"registration_client_uri"`
}

type sealedToken struct {
	Access  string    `json:"access_token"`
	Type    string    `json:"token_type"`
	Expires time.Time `json:"expires_at"`
}

func (m material) seal() (bindery.Secret, error) {
	s := sealed{Request: m.Request, TokenURL: m.TokenEndpoint, Authorization: m.AuthorizationEndpoint}
	if r := m.Registration; r != nil {
		s.Client = &sealedClient{ID: r.ClientID, Secret: r.ClientSecret.Reveal(), Token: r.Token.Reveal(), URI: r.URI}
		if !r.SecretExpires.IsZero() {
			s.Client.SecretExpires = r.SecretExpires.Unix()
		}
	}
	if t := m.Token; t != nil {
		s.Token = &sealedToken{Access: t.Access.Reveal(), Type: t.Type, Expires: t.Expires}
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return bindery.Secret{}, fmt.Errorf("write material: %w", err)
	}
	return bindery.NewSecret(string(raw)), nil
}

// parseMaterial gives no cause: it would quote what it stumbled over.
func parseMaterial(secret bindery.Secret) (material, error) {
	var s sealed
	if json.Unmarshal([]byte(secret.Reveal()), &s) != nil || s.Request.Mode == "" {
		return material{}, bindery.Errorf(bindery.CodeInternal, "the account's material is not of this kind")
	}
	m := material{Request: s.Request, TokenEndpoint: s.TokenURL, AuthorizationEndpoint: s.Authorization}
	if c := s.Client; c != nil {
		m.Registration = c.registration()
	}
	if t := s.Token; t != nil {
		m.Token = &token{Access: bindery.NewSecret(t.Access), Type: t.Type, Expires: t.Expires}
	}
	return m, nil
}

func (c sealedClient) registration() *registration {
	r := &registration{ClientID: c.ID, ClientSecret: bindery.NewSecret(c.Secret), Token: bindery.NewSecret(c.Token), URI: c.URI}
	if c.SecretExpires != 0 { // 0: never (RFC 7591, section 3.2.1)
		r.SecretExpires = time.Unix(c.SecretExpires, 0).UTC()
	}
	return r
}

// errRender is for accounts whose credential the server has not told yet.
var errRender = errors.New("the server has not answered with a client yet")
