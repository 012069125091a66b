package nats

import (
	"crypto/sha256"
	"encoding/json"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"bindery"
)

// accountKey is the identity of an instance's account. A public key is a point of
// a curve, and this one comes out of a hash: nobody can know, or find, the private
// key that goes with it. So nobody can sign a user of the account by its identity,
// and an instance needs no secret that would have to be kept or could be lost.
func accountKey(instance string) (string, error) {
	sum := sha256.Sum256([]byte("bindery: NATS account of instance " + instance))
	key, err := nkeys.Encode(nkeys.PrefixByteAccount, sum[:])
	return string(key), err
}

// material is what an account's secret holds.
type material struct {
	Token  string         `json:"jwt"`  // the user's
	Seed   string         `json:"seed"` // the user's private key
	Access bindery.Access `json:"access"`

	claims *jwt.UserClaims // what Token says
}

// newMaterial makes a user of an account. The key that signs it is in nobody's hands afterwards.
func newMaterial(instance, name string, access bindery.Access, expires time.Time) (bindery.Secret, error) {
	account, err := accountKey(instance)
	if err != nil {
		return bindery.Secret{}, err
	}
	signer, err := nkeys.CreateAccount()
	if err != nil {
		return bindery.Secret{}, err
	}
	defer signer.Wipe()
	user, err := nkeys.CreateUser()
	if err != nil {
		return bindery.Secret{}, err
	}
	defer user.Wipe()
	key, err := user.PublicKey()
	if err != nil {
		return bindery.Secret{}, err
	}
	seed, err := user.Seed()
	if err != nil {
		return bindery.Secret{}, err
	}
	claims := jwt.NewUserClaims(key)
	claims.Name, claims.IssuerAccount = name, account
	claims.SetScoped(true)
	if !expires.IsZero() {
		claims.Expires = expires.Add(time.Second - 1).Unix() // Bindery itself comes first
	}
	token, err := claims.Encode(signer)
	if err != nil {
		return bindery.Secret{}, err
	}
	raw, err := json.Marshal(material{Token: token, Seed: string(seed), Access: access}) //nolint:gosec // into a Secret
	if err != nil {
		return bindery.Secret{}, err
	}
	return bindery.NewSecret(string(raw)), nil
}

// parseMaterial gives no cause: it would quote what it stumbled over.
func parseMaterial(s bindery.Secret) (material, error) {
	var m material
	err := json.Unmarshal([]byte(s.Reveal()), &m)
	if err == nil {
		m.claims, err = jwt.DecodeUserClaims(m.Token)
	}
	if err != nil || m.Seed == "" || !m.Access.Valid() {
		return material{}, bindery.Errorf(bindery.CodeInternal, "the account's material is not of this kind")
	}
	return m, nil
}

// signer is the public key that the user is signed with.
func (m material) signer() string { return m.claims.Issuer }

// credentials is the file that clients read.
func (m material) credentials() (string, error) {
	raw, err := jwt.FormatUserConfig(m.Token, []byte(m.Seed))
	return string(raw), err
}
