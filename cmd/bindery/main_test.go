package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"bindery/devserver"
	"bindery/devserver/natsd"
)

// TestMain makes this test binary the program `bindery` of the scripts.
func TestMain(m *testing.M) {
	natsd.Main() // for tests that start dev's servers without being the program
	testscript.Main(m, map[string]func(){"bindery": main})
}

// The scripts are what people type, run against the program as a process of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/script", map[string]scriptCommand{"get": get, "mode": mode, "pki": makePKI})
}

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

// runScripts runs the scripts of a directory, which have these commands and those
// that all have.
func runScripts(t *testing.T, dir string, commands map[string]scriptCommand) {
	t.Helper()
	commands["ready"] = waitReady
	commands["term"] = func(ts *testscript.TestScript, _ bool, _ []string) { signalDev(ts, syscall.SIGTERM) }
	testscript.Run(t, testscript.Params{
		Dir:                dir,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			for _, name := range []string{"BINDERY_REDIS_SERVER", "BINDERY_POSTGRES_BIN", "BINDERY_MYSQLD", "BINDERY_MARIADBD", "BINDERY_RABBITMQ_HOME", "BINDERY_TEST_ALL", "GOCOVERDIR"} {
				if v, ok := os.LookupEnv(name); ok {
					env.Setenv(name, v)
				}
			}
			env.Setenv("BINDERY_OIDC_MODULES", oidcModules())
			return nil
		},
		Condition: func(name string) (bool, error) {
			found, ok := conditions[name]
			if ok {
				return os.Getenv("BINDERY_TEST_ALL") == "1" || found(), nil
			}
			return false, fmt.Errorf("unknown condition %s", name)
		},
		Cmds: commands,
	})
}

// conditions say whether there is something to start. With BINDERY_TEST_ALL=1 the
// scripts run all the same, and fail.
var conditions = map[string]func() bool{
	"servers": func() bool {
		_, err := devserver.FindRedis()
		return err == nil && len(devserver.FindPostgres()) > 0
	},
	"mysql":    func() bool { _, err := devserver.FindMySQL(); return err == nil },
	"rabbitmq": func() bool { _, err := devserver.FindRabbitMQ(); return err == nil },
	"oauth":    func() bool { _, err := exec.LookPath("node"); return err == nil && oidcModules() != "" },
}

// oidcModules is where scripts/install-servers has put npm's oidc-provider; empty if nowhere.
func oidcModules() string {
	if named := os.Getenv("BINDERY_OIDC_MODULES"); named != "" {
		return named
	}
	found, err := filepath.Glob("../../.cache/oidc-provider/*")
	if err != nil || len(found) == 0 {
		return ""
	}
	name, err := filepath.Abs(found[len(found)-1])
	if err != nil {
		return ""
	}
	return name
}

// ready FILE: waits until `bindery dev` has written FILE, and puts what is in it
// into variables.
func waitReady(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(3 * time.Minute) // a broker takes its time on a busy machine
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil {
			var r readyReport
			ts.Check(json.Unmarshal(b, &r)) // never half of it
			for k, v := range map[string]string{
				"HTTP": r.HTTP, "HTTPS": r.HTTPS, "CA": r.CAFile, "CONFIG": r.Config, "METRICS": r.Metrics,
				"PASSWORD": r.OSB.Password, "TOKEN": r.Admin.Token, "PID": strconv.Itoa(r.PID),
			} {
				if v == "" || v == "0" {
					ts.Fatalf("%s is missing in %s", k, b)
				}
				ts.Setenv(k, v)
			}
			for _, s := range r.Services {
				ts.Setenv("ID_"+s.Name, s.ID)
			}
			return
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(deadline) {
			ts.Fatalf("%v", err)
		}
		<-tick.C
	}
}

// get URL STATUS: asks like a platform does, and writes the answer into the file body.
func get(ts *testscript.TestScript, neg bool, args []string) {
	client := &http.Client{Timeout: 30 * time.Second}
	if pem, err := os.ReadFile(ts.Getenv("CA")); err == nil {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	}
	req, err := http.NewRequest(http.MethodGet, args[0], nil)
	ts.Check(err)
	req.Header.Set("X-Broker-API-Version", "2.17")
	req.SetBasicAuth("dev", ts.Getenv("PASSWORD"))
	if strings.Contains(args[0], "/admin/") {
		req.Header.Set("Authorization", "Bearer "+ts.Getenv("TOKEN"))
	}
	res, err := client.Do(req)
	if neg {
		if err == nil {
			ts.Fatalf("%s answered %d", args[0], res.StatusCode)
		}
		return
	}
	ts.Check(err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("body"), b, 0o600))
	if strconv.Itoa(res.StatusCode) != args[1] {
		ts.Fatalf("%s answered %d: %s", args[0], res.StatusCode, b)
	}
}

// pki DIR: makes certificates in DIR.
func makePKI(ts *testscript.TestScript, _ bool, args []string) {
	pki, err := devserver.OpenPKI(ts.MkAbs(args[0]), time.Now)
	ts.Check(err)
	_, err = pki.Server()
	ts.Check(err)
}

// term: sends SIGTERM to the `bindery dev` that is ready.
func signalDev(ts *testscript.TestScript, s os.Signal) {
	pid, err := strconv.Atoi(ts.Getenv("PID"))
	ts.Check(err)
	p, err := os.FindProcess(pid)
	ts.Check(err)
	ts.Check(p.Signal(s))
}

// mode MODE FILE...: compares permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args[1:] {
		info, err := os.Stat(ts.MkAbs(name))
		ts.Check(err)
		if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
			ts.Fatalf("%s has mode %s", name, got)
		}
	}
}
