package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"time"
)

// bareEnv makes this program the bare server and tells what it needs, as JSON.
const bareEnv = "BINDERY_BENCH_BARE_SERVER"

// A bareServer is the least that gives out tokens to clients with certificates:
// Go's TLS server checks them, and one pooled GET asks the service.
type bareServer struct {
	CertFile, KeyFile, CAFile string
	Upstream                  string // its URL, up to the user
	Key                       string
}

// startBare starts it as a process of its own, and returns its address.
func (i *identityBench) startBare(ctx context.Context) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	settings, err := json.Marshal(bareServer{
		CertFile: i.ca.CertFile, KeyFile: i.ca.KeyFile, CAFile: i.ca.CAFile, Key: identityKey,
		Upstream: fmt.Sprintf("https://%s:%d/v1/users:byUUID/", i.sample.Host, i.sample.Port),
	})
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), bareEnv+"="+string(settings))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	i.closers = append(i.closers, func() error {
		_ = cmd.Process.Kill() // it keeps nothing
		_ = cmd.Wait()         // killed
		return nil
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", errors.New("the bare server did not start")
	}
	return line[:len(line)-1], nil
}

// run serves until it is killed.
func (s bareServer) run() error {
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: workloads,
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	mux := http.NewServeMux()
	mux.HandleFunc("/fixed", func(w http.ResponseWriter, _ *http.Request) { answer(w, "a-token-that-is-always-the-same") })
	mux.HandleFunc("/get", func(w http.ResponseWriter, r *http.Request) {
		token, err := s.fetch(r.Context(), client, r.TLS.PeerCertificates[0].Subject.CommonName)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		answer(w, token)
	})
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
	})
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return (&http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

func (s bareServer) fetch(ctx context.Context, client *http.Client, user string) (string, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Upstream+url.PathEscape(user)+"?key="+url.QueryEscape(s.Key), nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var got struct {
		Token string `json:"token"`
	}
	if err := json.Unmarshal(body, &got); err != nil || got.Token == "" {
		return "", errors.New("no token")
	}
	return got.Token, nil
}

func answer(w http.ResponseWriter, token string) {
	body, err := json.MarshalIndent(map[string]string{"token": token}, "", " ")
	if err != nil {
		panic(err) // a string encodes
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(body) // who hung up does not get it
}
