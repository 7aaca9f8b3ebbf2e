package main

import (
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/edge"
	"github.com/lockstep-tls/lockstep/edgeproxy"
	"github.com/lockstep-tls/lockstep/test/pages"
)

const intro = `
lockstep-edge reads one YAML file, which ` + "`--config FILE` or `LOCKSTEP_EDGE_CONFIG`" + ` names. It is decoded
strictly: a key that is not known is refused. Each key that holds one value is also a flag and an
environment variable. A flag wins over the environment, and that over the file. SIGHUP starts a new
process with the file as it is then. ` + "`--check`" + ` [names every problem
before](../upgrade.md#check-before-a-start). [lockstep-edge.schema.json](lockstep-edge.schema.json) is a
JSON Schema of the file, for editors.

Under systemd it takes its sockets from ` + "`LISTEN_FDS`" + ` and tells its state to
` + "`NOTIFY_SOCKET`" + `. Durations are written as in Go: ` + "`300ms`, `5s`, `1h30m`" + `.
`

func TestReferenceOfTheSettings(t *testing.T) {
	c := edge.Default()
	c.Listeners = nil
	page := pages.Settings{
		Title: "Settings of lockstep-edge", Intro: intro, Default: c, Flags: command().Flags(), Env: "LOCKSTEP_EDGE_",
	}
	page.Lists = map[string]any{
		"listeners": edgeproxy.Listener{Scope: "default", MinVersion: "1.2"},
		"routes":    edgeproxy.Route{Host: "*", Path: "/"},
	}
	pages.Golden(t, "docs/reference/lockstep-edge.md", page.Page(t))
}

func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	all := pages.Commands(pages.All(t), "lockstep-edge")
	for _, c := range all {
		if err := pages.Check(command(), c); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	if len(all) < 2 {
		t.Fatalf("only %d commands were found", len(all))
	}
}
