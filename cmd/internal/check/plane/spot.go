package plane

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
)

// ownLine finds the line that an error names itself: as "line 5", or as "[5:3]" of go-yaml.
var ownLine = regexp.MustCompile(`\bline ([0-9]+)\b|\[([0-9]+):[0-9]+\]`)

var identifier = regexp.MustCompile(`[a-z][a-z0-9_]*`)

// spot says where in a YAML file an error is: FILE:LINE, as compilers do. The line is the one that
// the error names, or that of the innermost key of which it speaks. Without either, as where
// something is missing, it is empty.
func spot(file string, text []byte, err error) string {
	said := err.Error()
	if m := ownLine.FindStringSubmatch(said); m != nil {
		return fmt.Sprintf("%s:%s: ", file, m[1]+m[2])
	}
	if strings.Contains(said, "is missing") {
		return ""
	}
	spoken := map[string]bool{}
	for _, word := range identifier.FindAllString(said, -1) {
		spoken[word] = true
	}
	line, depth := 0, 0
	for key, at := range strictyaml.Lines(text) {
		path := strings.FieldsFunc(key, func(r rune) bool { return r == '.' || r == '[' })
		if !spoken[path[len(path)-1]] { // that of a list's item is a number
			continue
		}
		if len(path) > depth || len(path) == depth && at < line {
			line, depth = at, len(path)
		}
	}
	if line == 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d: ", file, line)
}
