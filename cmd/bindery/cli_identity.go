package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

const identityHelp = "This asks Bindery's identity face, with the key of BINDERY_IDENTITY_KEY or\n" +
	"--identity-key-file."

// identityFlags adds the flags of commands that ask the identity face.
func (s *session) identityFlags(c *cobra.Command, keyed bool) {
	s.printFlags(c)
	f := c.Flags()
	f.StringVar(&s.identityURL, "identity-url", "", "URL of the identity face (BINDERY_IDENTITY_URL)")
	if keyed {
		f.StringVar(&s.identityKey, "identity-key-file", "", "file with the key for it, - is standard input (else BINDERY_IDENTITY_KEY)")
	}
	f.StringVar(&s.caFile, "ca-file", "", "CA certificates to trust instead of the system's (BINDERY_CA_FILE)")
	f.StringVar(&s.readyFile, "ready-file", "", "take all of these from the file that bindery dev wrote (BINDERY_READY_FILE)")
}

// identityPlace says where the identity face is. As with [session.place], what
// the ready file has beside is for that address only.
func (s *session) identityPlace() (where string, ready *readyFile, err error) {
	if where = s.identityURL; where == "" && s.readyFile == "" {
		where = s.Env("BINDERY_IDENTITY_URL")
	}
	if where != "" {
		return where, &readyFile{}, nil
	}
	if err := s.loadReady(); err != nil {
		return "", nil, err
	}
	if s.ready.HTTPS != "" {
		return s.ready.HTTPS, s.ready, nil
	}
	return "", nil, usagef("where is the identity face? Set BINDERY_IDENTITY_URL and BINDERY_IDENTITY_KEY,\n"+
		"or BINDERY_READY_FILE %s", readyHint())
}

// face returns the client of the identity face, with a key.
func (s *session) face() (*client.Authn, error) {
	where, ready, err := s.identityPlace()
	if err != nil {
		return nil, err
	}
	key := bindery.NewSecret(first(ready.Authn.Key, s.Env("BINDERY_IDENTITY_KEY")))
	if s.identityKey != "" {
		if key, err = s.secretFile(s.identityKey); err != nil {
			return nil, err
		}
	}
	if key.Empty() {
		return nil, usagef("the identity face wants a key: set BINDERY_IDENTITY_KEY, or use --identity-key-file")
	}
	h, err := s.client(ready)
	if err != nil {
		return nil, err
	}
	s.warnClear(where)
	return &client.Authn{URL: where, Key: key, HTTP: h}, nil
}

// proofFace returns the client of the identity face for somebody who proves
// themselves: with a certificate, unless there is none.
func (s *session) proofFace(certFile, keyFile string, byCertificate bool) (*client.Authn, error) {
	where, ready, err := s.identityPlace()
	if err != nil {
		return nil, err
	}
	var own []tls.Certificate
	if byCertificate {
		cert, err := s.certificate(ready, certFile, keyFile)
		if err != nil {
			return nil, err
		}
		own = append(own, cert)
	}
	h, err := s.client(ready, own...)
	if err != nil {
		return nil, err
	}
	s.warnClear(where)
	return &client.Authn{URL: where, HTTP: h}, nil
}

// certificate reads the certificate to present. A file may hold both, as grid proxies do.
func (s *session) certificate(ready *readyFile, certFile, keyFile string) (tls.Certificate, error) {
	if certFile == "" {
		certFile = s.Env("BINDERY_CLIENT_CERT")
		keyFile = first(keyFile, s.Env("BINDERY_CLIENT_KEY"))
	}
	if certFile == "" {
		certFile, keyFile = ready.Client.CertFile, first(keyFile, ready.Client.KeyFile)
	}
	if certFile == "" {
		return tls.Certificate{}, usagef("who asks? Name a certificate with --cert and --key, or a token with --oidc-token-file")
	}
	cert, err := tls.LoadX509KeyPair(certFile, first(keyFile, certFile))
	if err != nil {
		return cert, usageError{fmt.Errorf("the certificate %s and its key: %w", certFile, err)}
	}
	return cert, nil
}

// explainIdentity adds what to do to the identity face's errors.
func (s *session) explainIdentity(err error) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return err
	}
	switch {
	case e.Status == http.StatusUnauthorized:
		return hintf(err, "The identity face does not take this key: see BINDERY_IDENTITY_KEY and --identity-key-file.")
	case e.Status == http.StatusNotFound && e.Description == "":
		return hintf(err, "This may not be Bindery, or it serves its identity face elsewhere: see BINDERY_IDENTITY_URL.")
	}
	return s.explain(err)
}

// printObject prints one thing: as it is in JSON, else as lines of name and value.
func (s *session) printObject(v any, lines ...[2]string) error {
	if s.output == "json" {
		return s.printJSON(v)
	}
	var t table
	for _, l := range lines {
		t.add(l[0], l[1])
	}
	return s.printTable(t)
}

// printBecame prints one line: what it is, and what became of it; in JSON the object.
func (s *session) printBecame(v any, name, became string) error {
	if s.output == "json" {
		return s.printJSON(v)
	}
	_, err := fmt.Fprintf(s.Out, "%s: %s\n", client.Printable(name), became)
	return err
}

// A removed is what a deletion prints with -o json.
type removed struct {
	Name    string `json:"name"`
	Host    string `json:"host,omitempty"`
	Deleted bool   `json:"deleted"`
}

// tableChunk is how many lines of a long list get columns of one width.
const tableChunk = 500

// printPages prints a list of any length in constant memory.
func printPages[T any](s *session, items iter.Seq2[T, error], heading []string, row func(T) []string, show func(T) any) error {
	if s.output == "json" {
		return printArray(s, items, show)
	}
	t := table{rows: [][]string{heading}}
	for item, err := range items {
		if err != nil {
			return s.explainIdentity(err)
		}
		if t.add(row(item)...); len(t.rows) < tableChunk {
			continue
		}
		if err := s.printTable(t); err != nil {
			return err
		}
		t.rows = nil
	}
	return s.printTable(t)
}

// printArray prints a list as one JSON array, while it arrives.
func printArray[T any](s *session, items iter.Seq2[T, error], show func(T) any) error {
	before, end := "[\n  ", "[]\n"
	for item, err := range items {
		if err != nil {
			return s.explainIdentity(err)
		}
		b, err := indented(show(item), "  ")
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(s.Out, "%s%s", before, b); err != nil {
			return err
		}
		before, end = ",\n  ", "\n]\n"
	}
	_, err := fmt.Fprint(s.Out, end)
	return err
}

// An optional is a flag that leaves nil where it is not given.
type optional[T any] struct {
	to    **T
	kind  string
	parse func(old *T, text string) (T, error)
}

func (o optional[T]) String() string { return "" }
func (o optional[T]) Type() string   { return o.kind }

func (o optional[T]) Set(text string) error {
	v, err := o.parse(*o.to, text)
	if err == nil {
		*o.to = &v
	}
	return err
}

func textFlag(c *cobra.Command, to **string, name, usage string) {
	c.Flags().Var(optional[string]{to, "string", func(_ *string, text string) (string, error) { return text, nil }}, name, usage)
}

func numberFlag(c *cobra.Command, to **int, name, usage string) {
	c.Flags().Var(optional[int]{to, "int", func(_ *int, text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0, errors.New("not a number")
		}
		return n, nil
	}}, name, usage)
}

func listFlag(c *cobra.Command, to **[]string, name, usage string) {
	c.Flags().Var(optional[[]string]{to, "string", func(old *[]string, text string) ([]string, error) {
		if old == nil {
			return []string{text}, nil
		}
		return append(*old, text), nil
	}}, name, usage+"; may be repeated")
}

func joined[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(string(w))
	}
	return b.String()
}

// Completion.

// completeIdentity completes arguments with what the face knows: one function for each place.
func (s *session) completeIdentity(c *cobra.Command, places ...func(ctx context.Context, face *client.Authn, args []string) []string) {
	c.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(places) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return s.completeWith(cmd, func(ctx context.Context, face *client.Authn) []string { return places[len(args)](ctx, face, args) })
	}
}

// completeIdentityFlag completes a flag in the same way.
func (s *session) completeIdentityFlag(c *cobra.Command, flag string, names func(ctx context.Context, face *client.Authn) []string) {
	_ = c.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return s.completeWith(cmd, names)
	})
}

func (s *session) completeWith(cmd *cobra.Command, names func(ctx context.Context, face *client.Authn) []string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completing)
	defer cancel()
	if s.check() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s.quiet = true
	face, err := s.face()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names(ctx, face), cobra.ShellCompDirectiveNoFileComp
}

func serviceTypeNames(ctx context.Context, face *client.Authn, _ []string) []string {
	return someWords(face.ServiceTypes(ctx), func(t client.ServiceType) string { return word(t.Name, t.Type+" on "+joined(t.Hosts)) })
}

func identityBindingNames(ctx context.Context, face *client.Authn, _ []string) []string {
	return someWords(face.Bindings(ctx), func(b client.IdentityBinding) string { return word(b.Name, b.Identifier) })
}

// hostNames completes a host of the service type that is the first argument.
func hostNames(ctx context.Context, face *client.Authn, args []string) []string {
	t, err := face.ServiceType(ctx, args[0])
	if err != nil {
		return nil
	}
	return slices.Clone(t.Hosts)
}

func someWords[T any](items iter.Seq2[T, error], show func(T) string) []string {
	var words []string
	for item, err := range items {
		if err != nil || len(words) >= mostNames {
			break
		}
		words = append(words, show(item))
	}
	return words
}
