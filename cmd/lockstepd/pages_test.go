package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/config"
	"github.com/lockstep-tls/lockstep/keysource/eager"
	"github.com/lockstep-tls/lockstep/rotation"
	"github.com/lockstep-tls/lockstep/test/pages"
)

const intro = `
lockstepd reads one YAML file, which ` + "`--config FILE` or `LOCKSTEP_CONFIG`" + ` names. It is decoded strictly: a
key that is not known is refused. Each key that holds one value is also a flag and an environment
variable. A flag wins over the environment, and that over the file. ` + "`--version`" + ` prints the version.

SIGHUP reads the file again. [What changes then](../rotation.md#changing-the-policy), and what needs a
restart, is logged. ` + "`--check`" + ` [names every problem before](../upgrade.md#check-before-a-start).
[lockstepd.schema.json](lockstepd.schema.json) is a JSON Schema of the file, for editors.

` + "`GOGC`" + ` overrides how much garbage may lie beside what is in use, 50 percent. Durations are written as
in Go: ` + "`300ms`, `5s`, `1h30m`" + `. Addresses are ` + "`host:port` or `unix:/path`" + `.
`

func TestReferenceOfTheSettings(t *testing.T) {
	c := config.Default()
	c.Listeners = config.Listeners{Scope: "default", MaxEager: eager.DefaultMax}
	pages.Golden(t, "docs/reference/lockstepd.md", pages.Settings{
		Title: "Settings of lockstepd", Intro: intro, Default: c, Flags: command().Flags(), Env: "LOCKSTEP_",
		Also: []pages.Section{{
			Name: "scopes", Intro: "The sets of ticket keys, by name. The scope default always exists.",
			Value: rotation.DefaultPolicy(),
		}},
	}.Page(t))
}

// The page has the keys of scopes by the names of fields; the file must know each of them.
func TestKeysOfScopesAreKnown(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(pages.Root(t), "docs/reference/lockstepd.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n## scopes\n")
	if !ok {
		t.Fatal("the page has no section scopes")
	}
	value := map[string]string{
		"quorum": "90%", "laggard": "10m", "client_certs": "none", "period": "1h", "max_key_age": "4h",
	}
	file := "scopes:\n  default:\n"
	keys := 0
	for _, line := range strings.Split(section, "\n") {
		key, ok := strings.CutPrefix(line, "### `")
		if !ok {
			continue
		}
		key = strings.TrimSuffix(key, "`")
		v, ok := value[key]
		if !ok {
			v = "2h"
		}
		file += fmt.Sprintf("    %s: %s\n", key, v)
		keys++
	}
	if keys < 8 {
		t.Fatalf("only %d keys were found", keys)
	}
	path := filepath.Join(t.TempDir(), "lockstepd.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	c.Flags(flags)
	if err := c.Load(path, flags, func(string) string { return "" }); err != nil {
		t.Errorf("%v\n%s", err, file)
	}
}

func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	all := pages.Commands(pages.All(t), "lockstepd")
	for _, c := range all {
		if err := pages.Check(command(), c); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	if len(all) < 4 {
		t.Fatalf("only %d commands were found", len(all))
	}
}
