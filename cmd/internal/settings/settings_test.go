package settings_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/settings"
	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
)

type program struct {
	Wait   time.Duration `yaml:"wait"`
	Peer   string        `yaml:"peer"`
	Routes []route       `yaml:"routes"`
	Names  []string      `yaml:"names"`
	secret string
}

type route struct {
	Host string `yaml:"host"`
}

func (p *program) Flags(f *pflag.FlagSet) {
	f.DurationVar(&p.Wait, "wait", p.Wait, "")
	f.StringVar(&p.Peer, "peer", p.Peer, "")
}

func (p *program) Parse(b []byte) []strictyaml.Fault { return strictyaml.Decode(b, p) }

func (p *program) Check() (all []strictyaml.Fault) {
	if p.Wait < time.Second {
		all = append(all, settings.Fault("", fmt.Errorf("wait: %s is below 1s", p.Wait)))
	}
	for i, r := range p.Routes {
		if r.Host == "" {
			all = append(all, settings.Fault("", fmt.Errorf("routes[%d]: host is empty", i)))
		}
	}
	return all
}

func TestAFaultSaysWhereItStands(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.yaml")
	for _, c := range []struct {
		text, env, flag string
		want            string
	}{
		{text: "wait: 2s\n"},
		{text: "peer: a\nwait: 2ms\nroutes:\n- host: b\n- host: ''\n",
			want: file + ":2: wait: 2ms is below 1s\n" + file + ":5: routes[1]: host is empty"},
		{text: "wait: 2s\n", env: "1ms", want: "P_WAIT: wait: 1ms is below 1s"},
		{text: "wait: 2s\n", env: "1ms", flag: "2ms", want: "--wait: wait: 2ms is below 1s"},
		{text: "peer: a\nwiat: 2s\npeers: 1\n",
			want: file + ":2: unknown key \"wiat\"\n" + file + ":3: unknown key \"peers\""},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		var p program
		f := pflag.NewFlagSet("", pflag.ContinueOnError)
		p.Flags(f)
		if c.flag != "" {
			if err := f.Parse([]string{"--wait", c.flag}); err != nil {
				t.Fatal(err)
			}
		}
		err := settings.From(file, "P_", f, func(name string) string {
			return map[string]string{"P_WAIT": c.env}[name]
		}).Read(&p, f)
		if got := fmt.Sprint(err); c.want == "" && err != nil || c.want != "" && got != c.want {
			t.Errorf("%q: %s; want %s", c.text, got, c.want)
		}
	}
	var p program
	err := settings.Source{File: filepath.Join(t.TempDir(), "none")}.Read(&p, pflag.NewFlagSet("", 0))
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestSettingsAreShownWithoutPasswords(t *testing.T) {
	got := settings.Flatten(program{
		Wait: time.Hour, Peer: "nats://me:secret@a:1", Routes: []route{{"a"}, {"b"}}, Names: []string{"x", "y"},
		secret: "secret",
	}).Texts()
	for key, want := range map[string]string{
		"wait": "1h", "peer": "nats://me:xxxxx@a:1", "routes[1].host": "b", "names": "x, y",
	} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
	for peer, want := range map[string]string{
		"nats://me:se%cret@a:1,nats://b":               "a URL that cannot be read",
		"nats://b,nats://me:secret@a":                  "nats://b,nats://me:xxxxx@a",
		"nats://me:secret@a,nats://me:other-secret@b":  "nats://me:xxxxx@a,nats://me:xxxxx@b",
		"nats://a:secret@h:1, nats://b:secret@h:2,c:3": "nats://a:xxxxx@h:1,nats://b:xxxxx@h:2,c:3",
		"nats://token-secret@a":                        "nats://xxxxx@a",
		"nats://me:se,cret@a":                          "a URL that cannot be read",
		"nats://me:secret@a,me:secret@b":               "a URL that cannot be read",
		"nats://me:secret@a;nats://me:secret@b":        "a URL that cannot be read",
		"nats://me:secret@a/secret@b":                  "a URL that cannot be read",
		"redis://:secret@a?x=secret@b":                 "a URL that cannot be read",
		"redis://me@a/1":                               "redis://me@a/1",
		"ann@a.example":                                "ann@a.example",
	} {
		got := settings.Flatten(program{Peer: peer, Names: []string{peer}})
		all := fmt.Sprintf("%v %+v", got, got["names"])
		if got["peer"].String() != want || strings.Contains(all, "cret") {
			t.Errorf("%s is shown as %s: %s", peer, got["peer"], all)
		}
	}
}

// Digests are those of what was set. So neither a setting that a later version knows, nor one that
// has another default there, looks like a change. Without the key a password cannot be tried.
func TestDigestsAreOfWhatWasSet(t *testing.T) {
	type earlier struct {
		Peer string        `yaml:"peer"`
		Wait time.Duration `yaml:"wait"`
	}
	type later struct {
		Wait  time.Duration `yaml:"wait"`
		Added bool          `yaml:"added"`
		Peer  string        `yaml:"peer"`
	}
	key := []byte("key")
	before := settings.Flatten(earlier{"nats://me:secret@a", time.Second}).Digests(key,
		settings.Flatten(earlier{Wait: time.Second}))
	after := settings.Flatten(later{Peer: "nats://me:secret@a", Wait: time.Minute, Added: true}).Digests(key,
		settings.Flatten(later{Wait: time.Minute, Added: true}))
	if len(before) != 2 || before["peer"] == "" || !maps.Equal(before, after) {
		t.Errorf("%v, after an upgrade %v", before, after)
	}
	other := settings.Flatten(earlier{Peer: "nats://me:other@a"}).Digests(key, settings.Flatten(earlier{}))
	if other["peer"] == before["peer"] || other[""] != before[""] {
		t.Error("another password has the same digest, or the same key another one")
	}
	if again := settings.Flatten(earlier{Peer: "nats://me:secret@a"}).Digests([]byte("k"),
		settings.Flatten(earlier{})); again["peer"] == before["peer"] || again[""] == before[""] {
		t.Error("another key has the same digest")
	}
}

func TestWhatShouldBeAURLIsShownWithoutItsPassword(t *testing.T) {
	for s, want := range map[string]string{
		"me:secret@a:4222":       "a URL that cannot be read",
		"http://me:secret@a":     "http://me:xxxxx@a",
		"nats://token-secret@a":  "nats://xxxxx@a",
		"embeded":                "embeded",
		"nats://a:4222,b:4222":   "nats://a:4222,b:4222",
		"redis://user@a/?db=two": "redis://user@a/?db=two",
	} {
		if got := settings.RedactURL(s); got != want {
			t.Errorf("%s: %q, want %q", s, got, want)
		}
	}
}
