package strictyaml

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
)

// options are how a file is decoded. go-yaml takes 1.5 and "1" for the whole number 1, refuses 0
// for a duration, and says what is wrong in terms of Go.
var options = []yaml.DecodeOption{
	yaml.Strict(), yaml.CustomUnmarshaler(duration), yaml.CustomUnmarshaler(whole), yaml.CustomUnmarshaler(truth),
}

func duration(d *time.Duration, b []byte) error {
	text := scalar(b)
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is no duration such as 10s or 1h30m", text)
	}
	*d = parsed
	return nil
}

func whole(n *int, b []byte) error {
	text := strings.TrimSpace(string(b))
	parsed, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%s is no whole number such as 100, without quotes", shown(text))
	}
	*n = parsed
	return nil
}

func truth(v *bool, b []byte) error {
	switch text := strings.TrimSpace(string(b)); text {
	case "true":
		*v = true
	case "false":
		*v = false
	default:
		return fmt.Errorf("%s is neither true nor false, without quotes", shown(text))
	}
	return nil
}

// shown puts a value into quotes that has none. Of a value of several lines it shows the first.
func shown(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "'") {
		return text
	}
	return strconv.Quote(text)
}

// scalar takes the quotes from a value.
func scalar(b []byte) string {
	var text string
	if err := yaml.Unmarshal(b, &text); err != nil {
		return strings.TrimSpace(string(b))
	}
	return text
}

var (
	ofType   = regexp.MustCompile(`^cannot unmarshal (.+) into Go .*of type (.+)$`)
	expected = regexp.MustCompile(`^(\w+) was used where (\w+) is expected$`)
)

// kinds are what go-yaml calls a value, in our words.
var kinds = map[string]string{
	"mapping": "a section of keys", "map": "a section of keys", "sequence": "a list", "string": "a text",
	"int": "a number", "float": "a number", "bool": "true or false", "null": "nothing",
}

func kind(of string) string {
	switch {
	case strings.HasPrefix(of, "map["):
		of = "map"
	case strings.HasPrefix(of, "[]"):
		of = "sequence"
	case strings.HasPrefix(of, "int"), strings.HasPrefix(of, "uint"):
		of = "int"
	case strings.HasPrefix(of, "float"):
		of = "float"
	}
	if words, ok := kinds[of]; ok {
		return words
	}
	return "another value"
}

// plain says in our words what go-yaml says in those of Go. bad is the value in the file.
func plain(text, bad string) string {
	if m := ofType.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("%q cannot stand there: %s stands where %s belongs", bad, kind(m[1]), kind(m[2]))
	}
	if m := expected.FindStringSubmatch(strings.ToLower(text)); m != nil {
		return fmt.Sprintf("%q cannot stand there: %s stands where %s belongs", bad, kind(m[1]), kind(m[2]))
	}
	return text
}
