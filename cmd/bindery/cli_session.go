package main

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"bindery"
	"bindery/client"
)

// maxSecretFile bounds the files that hold a password, a token or parameters.
const maxSecretFile = 1 << 20

// A session is one command's way to a broker: where it is and who asks, from
// flags, the environment and the file that "bindery dev" writes.
type session struct {
	streams
	url, username, passwordFile string
	adminURL, tokenFile         string
	caFile, readyFile           string
	as                          string
	identityURL, identityKey    string // the latter is a file
	ids, output                 string
	quiet                       bool

	formats []string // what --output takes
	http    *http.Client
	ready   *readyFile
	broker  *client.OSB
	offers  *client.Catalog
	warned  bool
}

// readyFile is the part of what "bindery dev" writes that a client needs.
type readyFile struct {
	HTTP   string `json:"http"`
	HTTPS  string `json:"https"`
	CAFile string `json:"ca_file"`
	OSB    struct {
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"osb"`
	Admin struct {
		Token string `json:"token"`
	} `json:"admin"`
	Authn  readyAuthn  `json:"authn"`
	Client readyClient `json:"client"`
}

// command makes a client command: run gets a session that its flags filled in,
// and a context that ends with Ctrl-C.
func command(st streams, c *cobra.Command, run func(context.Context, *session, []string) error, formats ...string) (*cobra.Command, *session) {
	s := &session{streams: st, formats: append([]string{"table", "json"}, formats...)}
	c.SilenceUsage, c.SilenceErrors = true, true
	c.DisableFlagsInUseLine = true
	c.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process
		if err := s.check(); err != nil {
			return err
		}
		return run(ctx, s, args)
	}
	c.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w\nusage: %s (see %s --help)", err, cmd.UseLine(), cmd.CommandPath())
	})
	return c, s
}

// flags adds the flags that every client command has, after its own.
func (s *session) flags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	s.printFlags(c)
	f.StringVar(&s.url, "broker", "", "URL of the broker (SB_BROKER_URL)")
	f.StringVar(&s.username, "username", "", "user name there (SB_BROKER_USERNAME)")
	f.StringVar(&s.passwordFile, "password-file", "", "file with the password, - is standard input (else SB_BROKER_PASSWORD)")
	f.StringVar(&s.caFile, "ca-file", "", "CA certificates to trust instead of the system's (BINDERY_CA_FILE)")
	f.StringVar(&s.readyFile, "ready-file", "", "take all of these from the file that bindery dev wrote (BINDERY_READY_FILE)")
	f.StringVar(&s.ids, "ids", "", "how names become ids: name, raw or guid (BINDERY_IDS; default name)")
	f.StringVar(&s.as, "as", "", "say on whose behalf you ask, for the broker's audit (BINDERY_AS)")
	fixed(c, "ids", idsByName, idsRaw, idsGUID)
}

// printFlags adds the flags that say how to print.
func (s *session) printFlags(c *cobra.Command) {
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&s.output, "output", "o", "", "how to print: "+strings.Join(s.formats, ", ")+" (default table)")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "print no notes and no progress")
	fixed(c, "output", s.formats...)
}

// adminFlags adds the flags of commands that ask the admin API.
func (s *session) adminFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.adminURL, "admin-url", "", "URL of the admin API (BINDERY_ADMIN_URL; default the broker's)")
	f.StringVar(&s.tokenFile, "token-file", "", "file with the admin token, - is standard input (else BINDERY_ADMIN_TOKEN)")
}

func (s *session) check() error {
	s.ids = first(s.ids, s.Env("BINDERY_IDS"), idsByName)
	s.output = first(s.output, "table")
	s.as = first(s.as, s.Env("BINDERY_AS"))
	if !slices.Contains(s.formats, s.output) {
		return usagef("--output takes %s, not %q", strings.Join(s.formats, ", "), s.output)
	}
	if !slices.Contains([]string{idsByName, idsRaw, idsGUID}, s.ids) {
		return usagef("--ids takes name, raw or guid, not %q", s.ids)
	}
	return nil
}

// place says where the broker is. Its credentials come from the ready file only
// where the URL does too, so that they are never sent to somebody else.
func (s *session) place() (broker string, ready *readyFile, err error) {
	if s.ready == nil {
		if err := s.readReady(); err != nil {
			return "", nil, err
		}
	}
	broker = s.url
	if broker == "" && s.readyFile == "" {
		broker = s.Env("SB_BROKER_URL")
	}
	if broker != "" {
		return broker, &readyFile{}, nil
	}
	if broker = first(s.ready.HTTP, s.ready.HTTPS); broker != "" {
		return broker, s.ready, nil
	}
	return "", nil, usagef("which broker? Set SB_BROKER_URL, SB_BROKER_USERNAME and SB_BROKER_PASSWORD,\n"+
		"or BINDERY_READY_FILE %s", readyHint())
}

// readyHint says to what somebody might set BINDERY_READY_FILE.
func readyHint() string {
	const usual = ".bindery/ready.json"
	if _, err := os.Stat(usual); err == nil {
		return "here:\n  export BINDERY_READY_FILE=$PWD/" + usual
	}
	return "to the file that bindery dev --ready-file wrote"
}

func (s *session) readReady() error {
	if s.readyFile == "" && first(s.url, s.Env("SB_BROKER_URL")) != "" {
		s.ready = &readyFile{}
		return nil
	}
	return s.loadReady()
}

// loadReady reads the ready file, if one is named.
func (s *session) loadReady() error {
	s.ready = &readyFile{}
	path := first(s.readyFile, s.Env("BINDERY_READY_FILE"))
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return usagef("the ready file %s does not exist: is bindery dev running, with --ready-file %s?", path, path)
	}
	if err != nil {
		return usageError{err}
	}
	if json.Unmarshal(raw, s.ready) != nil {
		return usagef("%s is not a file that bindery dev wrote", path)
	}
	return nil
}

// osb returns the client of the broker.
func (s *session) osb() (*client.OSB, error) {
	if s.broker != nil {
		return s.broker, nil
	}
	broker, ready, err := s.place()
	if err != nil {
		return nil, err
	}
	h, err := s.client(ready)
	if err != nil {
		return nil, err
	}
	username := first(s.username, ready.OSB.Username, s.Env("SB_BROKER_USERNAME"))
	password := bindery.NewSecret(first(ready.OSB.Password, s.Env("SB_BROKER_PASSWORD")))
	if s.passwordFile != "" {
		if password, err = s.secretFile(s.passwordFile); err != nil {
			return nil, err
		}
	}
	s.warnClear(broker)
	s.broker = &client.OSB{URL: broker, Username: username, Password: password, HTTP: h, Header: http.Header{}}
	if s.as != "" {
		who, err := json.Marshal(map[string]string{"user": s.as})
		if err != nil {
			return nil, err
		}
		s.broker.Header.Set("X-Broker-API-Originating-Identity", "bindery-cli "+base64.StdEncoding.EncodeToString(who))
	}
	return s.broker, nil
}

func (s *session) client(ready *readyFile, own ...tls.Certificate) (*http.Client, error) {
	if s.http != nil {
		return s.http, nil
	}
	var pem []byte
	if path := first(s.caFile, s.Env("BINDERY_CA_FILE"), ready.CAFile); path != "" {
		var err error
		if pem, err = os.ReadFile(path); err != nil {
			return nil, usageError{err}
		}
	}
	h, err := client.NewHTTP(pem, own...)
	if err != nil {
		return nil, usageError{err}
	}
	s.http = h
	return h, nil
}

// warnClear warns where a password would cross a network in clear.
func (s *session) warnClear(broker string) {
	u, err := url.Parse(broker)
	if err != nil || u.Scheme != "http" || s.warned {
		return
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return
	}
	s.warned = true
	s.note("warning: %s is not encrypted; passwords and credentials can be read on the way", client.Printable(broker))
}

// secretFile reads a secret that somebody keeps in a file, without its last newline.
func (s *session) secretFile(path string) (bindery.Secret, error) {
	raw, err := s.read(path)
	if err != nil {
		return bindery.Secret{}, err
	}
	v := strings.TrimRight(string(raw), "\r\n")
	if v == "" {
		return bindery.Secret{}, usagef("%s is empty", path)
	}
	return bindery.NewSecret(v), nil
}

// read reads a file, or standard input for "-".
func (s *session) read(path string) ([]byte, error) {
	from := s.In
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, usageError{err}
		}
		defer func() { _ = f.Close() }()
		from = f
	}
	raw, err := io.ReadAll(io.LimitReader(from, maxSecretFile+1))
	if err != nil {
		return nil, usageError{fmt.Errorf("read %s: %w", path, err)}
	}
	if len(raw) > maxSecretFile {
		return nil, usagef("%s is longer than %d bytes", path, maxSecretFile)
	}
	return raw, nil
}

// catalog asks for the catalog, once.
func (s *session) catalog(ctx context.Context) (client.Catalog, error) {
	if s.offers != nil {
		return *s.offers, nil
	}
	osb, err := s.osb()
	if err != nil {
		return client.Catalog{}, err
	}
	c, err := osb.Catalog(ctx)
	if err != nil {
		return c, s.explain(err)
	}
	s.offers = &c
	return c, nil
}

// explain adds what to do to errors that have the same cause everywhere.
func (s *session) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return err
	}
	switch code := e.Code(); {
	case code == bindery.CodeUnauthorized:
		return hintf(err, "The broker does not take this user name and password: see SB_BROKER_USERNAME,\n"+
			"SB_BROKER_PASSWORD, --password-file and --ready-file.")
	case e.Status == 0 && code == bindery.CodeUnavailable && strings.Contains(e.Error(), "certificate"):
		return hintf(err, "If the broker has a private CA, name its certificate with --ca-file.")
	case e.Status == 0 && code == bindery.CodeUnavailable:
		return hintf(err, "Is the broker running, and is this its address?")
	case code == bindery.CodeBusy:
		return hintf(err, "Another operation on it is running. See bindery operations, or try again when it is done.")
	}
	return err
}

// note prints a line for people, on the error stream.
func (s *session) note(format string, args ...any) {
	if !s.quiet {
		_, _ = fmt.Fprintf(s.Err, format+"\n", args...)
	}
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// fixed completes a flag with a few words.
func fixed(c *cobra.Command, flag string, words ...string) {
	_ = c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// completing bounds what a shell waits for while somebody presses Tab.
const completing = 2 * time.Second
