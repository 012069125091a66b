// Package identity proves who somebody is: by an X.509 certificate, its chain and
// its revocation, or by an OpenID Connect token.
package identity
