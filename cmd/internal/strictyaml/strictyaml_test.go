package strictyaml

import (
	"strings"
	"testing"
)

func TestWhatIsRefused(t *testing.T) {
	type file struct {
		Names []string       `yaml:"names"`
		More  map[string]int `yaml:"more"`
	}
	for text, want := range map[string]string{
		"names: [a]\nmore: {b: 1}\n": "", "": "", "# nothing\n": "", "---\n": "",
		"names:\n": "", "names: [\"!a\"]\n": "", "names: !x\na\n": "[1:8] the tag !x",
		"more: {b: !!int \"1\"}": "[1:11] the tag !!int",
		"more: !x [a]":           "[1:7] the tag !x",
		"!x names: [a]":          "the tag !x",
		"names: [&a !x b, *a]":   "the tag !x",
		"names: [a]\n---\n":      "2 documents",
		"name: [a]":              "[1:1] unknown field",
		"names: [":               "[1:8]",
		"names: a":               "[1:8]",
	} {
		var f file
		err := Unmarshal([]byte(text), &f)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
}
