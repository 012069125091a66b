package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"bindery"
)

// A readyReport is what --ready-file holds.
type readyReport struct {
	HTTP     string         `json:"http"`
	HTTPS    string         `json:"https"`
	CAFile   string         `json:"ca_file"`
	Config   string         `json:"config"`
	PID      int            `json:"pid"`
	Metrics  string         `json:"metrics"`
	OSB      readyOSB       `json:"osb"`
	Admin    readyAdmin     `json:"admin"`
	Authn    readyAuthn     `json:"authn"`
	Client   readyClient    `json:"client"`
	Services []readyService `json:"services"`
}

// readyAuthn is how to administer the identity face.
type readyAuthn struct {
	Key string `json:"key"`
}

// readyClient is a workload that has a binding.
type readyClient struct {
	CertFile string `json:"cert_file"`
	KeyFile  string `json:"key_file"`
	DN       string `json:"dn"`
}

type readyOSB struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

type readyAdmin struct {
	Token string `json:"token"`
}

type readyService struct {
	Name  string      `json:"name"`
	ID    string      `json:"id"`
	Plans []readyPlan `json:"plans"`
}

type readyPlan struct {
	Name string `json:"name"`
	ID   string `json:"id"`
}

// report says how to reach a service that `bindery dev` started.
func (d *devDir) report(s *service, i *devIdentity) readyReport {
	credential := s.cfg.Platforms[0].Credentials[0]
	r := readyReport{
		HTTP: s.listeners[0].url(), HTTPS: s.listeners[1].url(), CAFile: d.file("tls/ca.crt"),
		Config: d.file("bindery.yaml"), PID: os.Getpid(), Metrics: s.extra.url(),
		OSB:    readyOSB{Username: credential.Username, Password: credential.Password.Secret().Reveal()},
		Admin:  readyAdmin{Token: s.cfg.Admin.Tokens[0].Token.Secret().Reveal()},
		Authn:  readyAuthn{Key: s.cfg.Identity.Keys[0].Key.Secret().Reveal()},
		Client: readyClient{CertFile: i.client.CertFile, KeyFile: i.client.KeyFile, DN: i.dn},
	}
	for _, o := range s.catalog.Load().Offerings {
		r.Services = append(r.Services, readyServiceOf(o))
	}
	return r
}

func readyServiceOf(o *bindery.Offering) readyService {
	out := readyService{Name: o.Name, ID: o.ID}
	for _, p := range o.Plans {
		out.Plans = append(out.Plans, readyPlan{Name: p.Name, ID: p.ID})
	}
	return out
}

// writeReady writes the file at once, so that whoever waits for it reads all of it.
func writeReady(name string, r readyReport) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeSecret(name, string(b)+"\n")
}

// banner says what was started and what to type next. It shows no secret.
func banner(st streams, d *devDir, ready string, r readyReport) error {
	_, err := fmt.Fprintf(st.Out, `bindery dev is ready. Ctrl-C stops it; everything is kept in %s

  HTTP     %s
  HTTPS    %s   (CA: %s)
  metrics  %s/metrics
`, d.path, r.HTTP, r.HTTPS, r.CAFile, r.Metrics)
	if err != nil {
		return err
	}
	for _, s := range r.Services {
		_, _ = fmt.Fprintf(st.Out, "  service  %s:", s.Name)
		for _, p := range s.Plans {
			_, _ = fmt.Fprintf(st.Out, " %s", p.Name)
		}
		_, _ = fmt.Fprintln(st.Out)
	}
	first := r.Services[0]
	_, err = fmt.Fprintf(st.Out, `
In another terminal:

%s  export BINDERY_READY_FILE=%s
  bindery catalog
  bindery provision mine --service %s --plan %s
  bindery bind mine app
  bindery credentials mine app
  bindery unbind mine app
  bindery deprovision mine

and, as a workload that has nothing but its certificate:

  curl --cacert %s --cert %s --key %s \
    %s/v1/service-types/%s/hosts/%s:authx509

`, exportPath(), quoteShell(ready), first.Name, first.Plans[0].Name,
		quoteShell(r.CAFile), quoteShell(r.Client.CertFile), quoteShell(r.Client.KeyFile), r.HTTPS, sampleName, sampleHost)
	return err
}

// exportPath is the line that makes a shell find this program, if it would not.
func exportPath() string {
	self, err := os.Executable()
	if err != nil {
		return ""
	}
	if found, err := exec.LookPath("bindery"); err == nil && sameFile(found, self) {
		return ""
	}
	return "  export PATH=" + quoteShell(filepath.Dir(self)) + ":\"$PATH\"\n"
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}
