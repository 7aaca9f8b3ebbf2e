// Package settings reads the configuration of a program. It has a YAML file, the environment, and
// flags, of which the later wins. It says of each fault where it stands.
package settings

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/strictyaml"
)

// Config is the configuration of one program.
type Config interface {
	// Flags binds the keys that hold one value to flags. The values so far are the defaults.
	Flags(*pflag.FlagSet)
	// Parse reads a file over the values so far.
	Parse(file []byte) []strictyaml.Fault
	// Check returns everything that cannot be kept, of a configuration that was read.
	Check() []strictyaml.Fault
}

// Completer is a [Config] that fills in what follows from other settings, before the check.
type Completer interface {
	Complete(getenv func(string) string) error
}

// Source is where a configuration comes from. It can be read again and again.
type Source struct {
	File   string              // File is empty if there is none.
	Prefix string              // Prefix is that of the variables, such as LOCKSTEP_.
	Given  map[string]string   // Given are the flags that were given, by name.
	Getenv func(string) string // Getenv is os.Getenv.
}

// From returns the source of a program's configuration. f was parsed.
func From(file, prefix string, f *pflag.FlagSet, getenv func(string) string) Source {
	given := map[string]string{}
	f.Visit(func(fl *pflag.Flag) { given[fl.Name] = fl.Value.String() })
	return Source{file, prefix, given, getenv}
}

// Faults are all that is wrong with a configuration. Each has a line of its own, with the file and
// the line in it, or with the flag or variable.
type Faults []string

func (f Faults) Error() string { return strings.Join(f, "\n") }

// Read fills c, which has the defaults, and checks it. f holds the flags of c. The error wraps
// [Faults] if the file could be read.
func (s Source) Read(c Config, f *pflag.FlagSet) error {
	var lines map[string]int
	if s.File != "" {
		b, err := os.ReadFile(s.File)
		if err != nil {
			return unfilled{fmt.Errorf("the configuration: %w", err)}
		}
		lines = strictyaml.Lines(b)
		if faults := c.Parse(b); len(faults) > 0 {
			return unfilled{s.placed(faults, lines)}
		}
	}
	var errs []error
	f.VisitAll(func(fl *pflag.Flag) {
		value, from := s.outside(fl.Name)
		if from == "" {
			return
		}
		if err := fl.Value.Set(value); err != nil {
			errs = append(errs, fmt.Errorf("--%s (%s): %w", fl.Name, s.variable(fl.Name), err))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return unfilled{err}
	}
	if c, ok := c.(Completer); ok {
		if err := c.Complete(s.Getenv); err != nil {
			return unfilled{s.placed([]strictyaml.Fault{Fault("", err)}, lines)}
		}
	}
	if faults := c.Check(); len(faults) > 0 {
		return s.placed(faults, lines)
	}
	return nil
}

// unfilled is an error after which a configuration lacks a part of what was written.
type unfilled struct{ error }

func (u unfilled) Unwrap() error { return u.error }

// Filled reports whether a configuration has everything that was written, although [Source.Read]
// has returned err. Then err is what Check has found.
func Filled(err error) bool { return !errors.As(err, new(unfilled)) }

// Places returns a function that says where a key was set, as Place does. It is empty if nobody set
// the key.
func (s Source) Places() func(key string) string {
	var lines map[string]int
	if b, err := os.ReadFile(s.File); s.File != "" && err == nil {
		lines = strictyaml.Lines(b)
	}
	return func(key string) string {
		at := s.Place(strictyaml.Fault{Key: key}, lines)
		if at == s.File+": " {
			return ""
		}
		return at
	}
}

// outside returns the value of a flag that does not come from the file, and where it comes from.
func (s Source) outside(flag string) (value, from string) {
	if value, ok := s.Given[flag]; ok {
		return value, "--" + flag
	}
	if value := s.Getenv(s.variable(flag)); value != "" {
		return value, s.variable(flag)
	}
	return "", ""
}

func (s Source) variable(flag string) string {
	return s.Prefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// placed says of each fault where it stands.
func (s Source) placed(faults []strictyaml.Fault, lines map[string]int) error {
	var all Faults
	for _, f := range faults {
		all = append(all, s.Place(f, lines)+f.Text)
	}
	return all
}

// Place returns where a fault stands, with a colon and a blank behind it. It is empty if nobody
// wrote the setting.
func (s Source) Place(f strictyaml.Fault, lines map[string]int) string {
	if _, from := s.outside(strings.ReplaceAll(f.Key, "_", "-")); from != "" && f.Line == 0 {
		return from + ": "
	}
	for key := f.Key; f.Line == 0 && key != ""; {
		f.Line = lines[key]
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	switch {
	case f.Line > 0:
		return fmt.Sprintf("%s:%d: ", s.File, f.Line)
	case s.File != "" && lines != nil:
		return s.File + ": "
	}
	return ""
}

// key is how the text of an error begins that says which key it is about.
var key = regexp.MustCompile(`^[a-z_]+(\[\d+\])?(\.[a-z_]+)*`)

// Fault makes a fault of an error whose text begins with its key, below the key under.
func Fault(under string, err error) strictyaml.Fault {
	name := key.FindString(err.Error())
	if under != "" {
		return strictyaml.Fault{Key: under + "." + name, Text: err.Error()}
	}
	return strictyaml.Fault{Key: name, Text: err.Error()}
}
