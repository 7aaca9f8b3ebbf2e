package strictyaml

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

type example struct {
	Name  string        `yaml:"name"`
	Wait  time.Duration `yaml:"wait"`
	Items []struct {
		At int `yaml:"at"`
	} `yaml:"items"`
	Scopes map[string]*struct {
		Period *time.Duration `yaml:"period"`
	} `yaml:"scopes"`
}

func TestEveryFaultIsNamedWithItsLine(t *testing.T) {
	for text, want := range map[string][]string{
		"name: a\nwait: 3s\n": nil,
		"nam: a\nwait: soon\nitems: [{at: x}]\nb: 1": {
			"1: unknown key \"nam\"", "2: wait: \"soon\" is no duration such as 10s or 1h30m", "3: items[0].at: \"x\"",
			"4: unknown key \"b\""},
		"scopes:\n  a: {period: 1h}\n  b:\n    perid: 1h\n    period: [1]\n": {
			"4: unknown key \"scopes.b.perid\"", "5: scopes.b.period: "},
		"name: [a]\nwait: 3s\n":        {"1: name: "},
		"name: a\nname: b\nwait: x\n":  {"2: "}, // nothing is known of a file that is no YAML
		"name: &x a\nwait: *x\nb: 1\n": {"0: "}, // with references only the first is
		"name: {\n":                    {"1: "},
		"a: 1\n---\nb: 1\n":            {"0: there are 2 documents"},
		"name: !x a\n":                 {"1: the tag !x"},
	} {
		var v example
		got := Decode([]byte(text), &v)
		if len(got) != len(want) {
			t.Errorf("%q: %q, want %q", text, got, want)
			continue
		}
		for i, f := range got {
			line := fmt.Sprintf("%d: %s", f.Line, f.Text)
			if !strings.HasPrefix(line, want[i]) || strings.Contains(line, "\n") {
				t.Errorf("%q: %q, want %q", text, line, want[i])
			}
		}
	}
}

func TestAKeyIsFoundByItsLine(t *testing.T) {
	lines := Lines([]byte("# a\nname: x\nitems:\n- at: 1\n- {at: 2}\nscopes:\n  a:\n    period: 1h\n"))
	for key, want := range map[string]int{
		"name": 2, "items": 3, "items[0].at": 4, "items[1]": 5, "scopes.a": 7, "scopes.a.period": 8, "other": 0,
	} {
		if lines[key] != want {
			t.Errorf("%s: line %d, want %d", key, lines[key], want)
		}
	}
	if len(Lines([]byte("a: [")))+len(Lines(nil)) != 0 {
		t.Error("there are lines of nothing")
	}
}
