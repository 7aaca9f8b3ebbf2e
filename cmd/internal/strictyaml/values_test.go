package strictyaml

import (
	"strings"
	"testing"
	"time"
)

type values struct {
	Wait  time.Duration  `yaml:"wait"`
	Least *time.Duration `yaml:"least"`
	N     int            `yaml:"n"`
	On    bool           `yaml:"on"`
	Name  string         `yaml:"name"`
	Names []string       `yaml:"names"`
	In    struct {
		A string `yaml:"a"`
	} `yaml:"in"`
}

func TestWhatAValueMayBe(t *testing.T) {
	var v values
	text := "wait: 0\nleast: &d 1m\nn: 5\non: true\nname: 7\nnames: [1, b]\n"
	if faults := Decode([]byte(text), &v); len(faults) > 0 {
		t.Fatal(faults)
	}
	if v.Wait != 0 || *v.Least != time.Minute || v.N != 5 || !v.On || v.Name != "7" ||
		strings.Join(v.Names, "") != "1b" {
		t.Errorf("%+v", v)
	}
	if faults := Decode([]byte("least: &d 90s\nwait: *d\n"), &v); len(faults) > 0 || v.Wait != 90*time.Second {
		t.Errorf("an alias: %v %+v", faults, v)
	}
	v.N = 3
	if faults := Decode([]byte("n:\nwait: null\n"), &v); len(faults) > 0 || v.N != 3 || v.Wait != 90*time.Second {
		t.Errorf("no value: %v %+v", faults, v)
	}
}

// A fault of type is said to an operator, who knows no Go.
func TestFaultsOfTypeAreSaidInPlainWords(t *testing.T) {
	for text, want := range map[string]string{
		"wait: 5":       `wait: "5" is no duration such as 10s or 1h30m`,
		"wait: true":    `wait: "true" is no duration such as 10s or 1h30m`,
		"least: ''":     `least: "" is no duration such as 10s or 1h30m`,
		"n: many":       `n: "many" is no whole number such as 100, without quotes`,
		`n: "100"`:      `n: "100" is no whole number such as 100, without quotes`,
		"n: 1.5":        `n: "1.5" is no whole number such as 100, without quotes`,
		"on: perhaps":   `on: "perhaps" is neither true nor false, without quotes`,
		"on: 1":         `on: "1" is neither true nor false, without quotes`,
		"name: [a]":     `name: "[" cannot stand there: a list stands where a text belongs`,
		"name: {a: b}":  `name: "{" cannot stand there: a section of keys stands where a text belongs`,
		"names: 1":      `names: "1" cannot stand there: a number stands where a list belongs`,
		"names: {a: b}": `names: "{" cannot stand there: a section of keys stands where a list belongs`,
		"in: x":         `in: "x" cannot stand there: a text stands where a section of keys belongs`,
		"in: [x]":       `in: "[" cannot stand there: a list stands where a section of keys belongs`,
	} {
		faults := Decode([]byte(text), new(values))
		if len(faults) != 1 || faults[0].Text != want || faults[0].Line != 1 {
			t.Errorf("%q: %+v, want %q", text, faults, want)
			continue
		}
		for _, word := range []string{"unmarshal", "Go ", "uint64", "interface", "sequence", "mapping"} {
			if strings.Contains(faults[0].Text, word) {
				t.Errorf("%q: %q has %q in it", text, faults[0].Text, word)
			}
		}
	}
}
