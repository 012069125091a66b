package conformance

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"
)

const (
	redisKind    = "redis"
	postgresKind = "postgresql"

	fullConfig = "conformance.yaml"

	// syncBudget is short, so that what a test holds up is soon answered 202;
	// requestWait is what a caller waits who cannot poll.
	syncBudget  = "400ms"
	requestWait = "20s"
)

// fullCatalog is appended to dev's catalog, once for each service.
var fullCatalog = template.Must(template.New("").Parse(`
  - id: of-{{.K}}
    name: {{.K}}-full
    description: Everything that an offering can say
    metadata: {displayName: Full, longDescription: "All of it", documentationUrl: "https://docs.example.com"}
    plan_updateable: true
    allow_context_updates: true
    dashboard_url: "https://dashboard.example.com/{offering}/{plan}/{instance_id}"
    dashboard_client: {id: "client-{{.K}}", secret: {file: secrets/osb-password}, redirect_uri: "https://dashboard.example.com"}
    plans:
      - {id: {{.K}}-base, name: base, description: The usual, servers: [{{.K}}], {{.Base}}, maximum_polling_duration: 60s, metadata: {bullets: [one, two], costs: [{amount: {usd: 0.5}, unit: MONTHLY}]}}
      - {id: {{.K}}-other, name: other, description: Another to move to, free: false, servers: [{{.K}}], {{.Other}}}
      - {id: {{.K}}-async, name: async, description: For those who can poll, async_required: true, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-nonbindable, name: nonbindable, description: Not to be bound, bindable: false, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-retired, name: retired, description: Not offered any more, retired: true, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-retiring, name: retiring, description: Offered until the reload, {{.Retired}}servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-quota, name: quota, description: Two of each, quota: {instances: 2, bindings_per_instance: 2}, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-full-quota, name: full-quota, description: One instance, quota: {instances: 1}, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-maintained, name: maintained, description: With a version, maintenance_info: {version: 1.2.0+build.5, description: Patches}, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-maintained-other, name: maintained-other, description: With another version, maintenance_info: {version: 3.0.0-rc.1}, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-maturing, name: maturing, description: Gets a new version, maintenance_info: {version: {{.Maturing}}}, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-fixed, name: fixed, description: Stays as it is, plan_updateable: false, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-unrotatable, name: unrotatable, description: Without rotation, binding_rotatable: false, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-limited, name: limited, description: For two seconds, binding_lifetime: {default: 2s, max: 1h, renew_before: 1s}, servers: [{{.K}}], {{.Base}}}
{{- range .Lanes}}
      - {id: {{.}}, name: "{{.}}", description: A lane, servers: [{{index $.LaneServer .}}], {{index $.LaneSettings .}}}
{{- end}}
  - id: of-{{.K}}-app
    name: {{.K}}-app
    description: For applications only
    requires_app: true
    plans:
      - {id: {{.K}}-app-plan, name: plan, description: The only one, servers: [{{.K}}], {{.Base}}}
  - id: of-{{.K}}-plain
    name: {{.K}}-plain
    description: Nothing may be changed
    plans:
      - {id: {{.K}}-plain-a, name: a, description: The first, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-plain-b, name: b, description: The second, servers: [{{.K}}], {{.Other}}}
  - id: of-{{.K}}-closed
    name: {{.K}}-closed
    description: Not bindable, but for one plan
    bindable: false
    plans:
      - {id: {{.K}}-closed-plan, name: closed, description: Inherits, servers: [{{.K}}], {{.Base}}}
      - {id: {{.K}}-open-plan, name: open, description: Says otherwise, bindable: true, servers: [{{.K}}], {{.Base}}}
`))

type fullValues struct {
	K, Base, Other, Retired, Maturing string
	Lanes                             []string
	LaneServer, LaneSettings          map[string]string
}

var settings = map[string]struct{ base, other string }{
	redisKind:    {`settings: {scripts: true}`, `settings: {scripts: false}`},
	postgresKind: {`settings: {connection_limit: 30, max_connection_limit: 10, extensions: [pg_trgm, citext]}`, `settings: {connection_limit: 20, extensions: [pg_trgm, citext]}`},
}

// writeFullConfig makes the configuration of the full target out of dev's.
func writeFullConfig(devDir string) error {
	return editFullConfig(devDir, "", "1.0.0")
}

// editFullConfig writes it with the two things that a reload changes.
func editFullConfig(devDir, retired, maturing string) error {
	raw, err := os.ReadFile(filepath.Join(devDir, "bindery.yaml"))
	if err != nil {
		return err
	}
	text := string(raw)
	for _, change := range []struct{ expr, to string }{
		{`url: "sqlite:[^"]*"`, `url: "sqlite:conformance.db"`},
		{`address: "127\.0\.0\.1:\d+"\n    faces`, "address: \"127.0.0.1:0\"\n    faces"},
		{`(?m)^servers:\n`, "limits: {sync_budget: " + syncBudget + ", request_wait: " + requestWait + "}\n" +
			"reconcile: {interval: 24h}\nservers:\n" + laneServers()},
		{`(?m)^    credentials:\n`, "    credentials:\n      - username: second\n        password: {file: secrets/second-password}\n"},
		{`(?m)^admin:\n`, "  - name: elsewhere\n    credentials:\n      - {username: elsewhere, password: {file: secrets/second-password}}\nadmin:\n"},
	} {
		expr := regexp.MustCompile(change.expr)
		if !expr.MatchString(text) {
			return fmt.Errorf("dev's configuration has no %s", change.expr)
		}
		text = expr.ReplaceAllString(text, change.to)
	}
	var b bytes.Buffer
	b.WriteString(strings.TrimRight(text, "\n"))
	for _, kind := range []string{redisKind, postgresKind} {
		v := fullValues{
			K: kind, Base: settings[kind].base, Other: settings[kind].other, Maturing: maturing,
			LaneServer: map[string]string{}, LaneSettings: map[string]string{},
		}
		if retired != "" {
			v.Retired = "retired: true, "
		}
		for _, l := range allLanes {
			if l.kind == kind {
				v.Lanes = append(v.Lanes, l.plan, l.other, l.async)
				v.LaneServer[l.plan], v.LaneServer[l.other], v.LaneServer[l.async] = l.name, l.name, l.name
				v.LaneSettings[l.plan], v.LaneSettings[l.other], v.LaneSettings[l.async] = v.Base, v.Other, "async_required: true, "+v.Base
			}
		}
		if err := fullCatalog.Execute(&b, v); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(devDir, "secrets/second-password"), []byte(secondPassword), 0o600); err != nil {
		return err
	}
	for _, l := range allLanes {
		if err := os.WriteFile(filepath.Join(devDir, "secrets", l.name), []byte(l.password), 0o600); err != nil {
			return err
		}
	}
	// The file is replaced at once: a reload reads it.
	name := filepath.Join(devDir, fullConfig)
	if err := os.WriteFile(name+".new", b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// secondPassword opens the second credential, and another platform.
const secondPassword = "a-second-password-for-conformance"

func laneServers() string {
	var b strings.Builder
	for _, l := range allLanes {
		file := "secrets/" + l.name
		fmt.Fprintf(&b, "  - {name: %s, kind: %s, address: %q, username: %s, password: {file: %s}, public: {host: 127.0.0.1, port: %d}}\n",
			l.name, l.kind, l.proxy.Addr(), l.user, file, l.port)
	}
	return b.String()
}
