package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

func tokenCommand(st streams) *cobra.Command {
	var service, host, certFile, keyFile, oidcFile string
	c, s := command(st, &cobra.Command{
		Use:   "token --service S --host H [--cert FILE --key FILE | --oidc-token-file FILE]",
		Short: "Fetch a service's token, as whoever a certificate or a token proves",
		Long: `Token proves who asks with a client certificate, or with an OpenID Connect token,
and prints the token of the user that this identity is bound to: that and nothing
else goes to standard output.

The certificate is that of --cert and --key (PEM; a file may hold both), else that
of BINDERY_CLIENT_CERT and BINDERY_CLIENT_KEY, else that of the file that bindery
dev wrote. An OpenID Connect token is read from --oidc-token-file, - is standard
input, or BINDERY_OIDC_TOKEN; where there is one, no certificate is sent unless
--cert names it.`,
		Example: `  token="$(bindery token --service ams-prod --host msg.example.org --cert robot.pem --key robot.key)"
  bindery token --service portal --host a.example.org --oidc-token-file /run/secrets/token`,
		Args: exactly(0, 0),
	}, func(ctx context.Context, s *session, _ []string) error {
		if service == "" || host == "" {
			return usagef("say whose token it is to be with --service and --host")
		}
		if certFile != "" && oidcFile != "" {
			return usagef("--cert and --oidc-token-file exclude each other")
		}
		if keyFile != "" && certFile == "" {
			return usagef("--key goes with --cert")
		}
		var proof bindery.Secret
		var err error
		switch {
		case oidcFile != "":
			if proof, err = s.secretFile(oidcFile); err != nil {
				return err
			}
		case certFile == "":
			proof = bindery.NewSecret(s.Env("BINDERY_OIDC_TOKEN"))
		}
		face, err := s.proofFace(certFile, keyFile, proof.Empty())
		if err != nil {
			return err
		}
		var token client.Token
		if proof.Empty() {
			token, err = face.TokenByCertificate(ctx, service, host)
		} else {
			token, err = face.TokenByOIDC(ctx, service, host, proof)
		}
		if err != nil {
			return s.explainProof(err)
		}
		if s.output == "json" {
			return s.printJSON(struct {
				Token json.RawMessage `json:"token"`
			}{token.JSON()})
		}
		_, err = fmt.Fprintln(s.Out, token.Text())
		return err
	})
	f := c.Flags()
	f.StringVar(&service, "service", "", "the service type")
	f.StringVar(&host, "host", "", "the host")
	f.StringVar(&certFile, "cert", "", "file with the client certificate and its chain (BINDERY_CLIENT_CERT)")
	f.StringVar(&keyFile, "key", "", "file with its private key (BINDERY_CLIENT_KEY; default the certificate's file)")
	f.StringVar(&oidcFile, "oidc-token-file", "", "file with an OpenID Connect token, - is standard input (else BINDERY_OIDC_TOKEN)")
	s.identityFlags(c, false)
	return c
}

// explainProof adds what to do to the errors of somebody who is no administrator.
func (s *session) explainProof(err error) error {
	e, ok := errors.AsType[*client.Error](err)
	switch {
	case ok && e.Status == 401, ok && e.Status == 403:
		return err // it says what is wrong with the proof
	}
	return s.explainIdentity(err)
}
