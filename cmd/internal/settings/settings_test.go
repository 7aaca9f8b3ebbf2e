package settings_test

import (
	"errors"
	"fmt"
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
	})
	for key, want := range map[string]string{
		"wait": "1h", "peer": "nats://me:xxxxx@a:1", "routes[1].host": "b", "names": "x, y",
	} {
		if got[key] != want {
			t.Errorf("%s: %q, want %q", key, got[key], want)
		}
	}
	got = settings.Flatten(program{Peer: "nats://me:se%cret@a:1,nats://b"})
	if all := fmt.Sprint(got); strings.Contains(all, "cret") {
		t.Error(all)
	}
}
