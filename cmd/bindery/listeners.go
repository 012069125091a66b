package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"bindery/api"
	"bindery/config"
)

// A listener is one address that answers requests.
type listener struct {
	name    string // for logs: what it serves
	address string // as configured
	server  *http.Server
	socket  net.Listener
	tls     *certificates // nil: plain HTTP
}

// certificates are a listener's TLS, replaced as a whole at a reload.
// Connections that are open keep what they have.
type certificates struct{ now atomic.Pointer[tls.Config] }

// loadTLS reads a listener's files. It has no effect.
func loadTLS(l config.Listener) (*tls.Config, error) {
	t := l.TLS
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", t.CertFile, err)
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if slices.Contains(l.Faces, config.FaceAuthn) {
		// Only asked for here: who it proves is looked at in every request, so that
		// the caller gets an answer that it can read, and a certificate that was revoked
		// does not live on in an open or a resumed connection.
		c.ClientAuth = tls.RequestClientCert
	}
	if t.ClientCAFile != "" {
		pem, err := os.ReadFile(t.ClientCAFile)
		if err != nil {
			return nil, err
		}
		c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		if !c.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s has no PEM certificate", t.ClientCAFile)
		}
	}
	return c, nil
}

// listen binds the address. Nothing is answered before serve.
func listen(l config.Listener, h http.Handler, log *slog.Logger) (*listener, error) {
	out := &listener{name: "requests", address: l.Address, server: api.NewServer(h, log)}
	if l.TLS != nil {
		c, err := loadTLS(l)
		if err != nil {
			return nil, err
		}
		out.tls = &certificates{}
		out.tls.now.Store(c)
		out.server.TLSConfig = &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
				return out.tls.now.Load(), nil
			},
		}
	}
	return out, out.bind(l.Address)
}

func listenMetrics(address string, h http.Handler, log *slog.Logger) (*listener, error) {
	out := &listener{name: "metrics", address: address, server: api.NewServer(h, log)}
	out.server.WriteTimeout = 5 * time.Minute // a profile takes as long as it is asked to
	return out, out.bind(address)
}

func (l *listener) bind(address string) (err error) {
	var c net.ListenConfig
	l.socket, err = c.Listen(context.Background(), "tcp", address)
	return err
}

// serve answers until shutdown.
func (l *listener) serve(context.Context) error {
	var err error
	if l.tls != nil {
		err = l.server.ServeTLS(l.socket, "", "")
	} else {
		err = l.server.Serve(l.socket)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// shutdown stops accepting and waits for what is under way until ctx ends; what
// then still runs is cut.
func (l *listener) shutdown(ctx context.Context) error {
	err := l.server.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, l.server.Close())
	}
	return nil
}

// url is where the listener answers.
func (l *listener) url() string {
	scheme := "http://"
	if l.tls != nil {
		scheme = "https://"
	}
	return scheme + l.socket.Addr().String()
}
