package logs

import (
	"bytes"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"
)

// later is a duration that is known when it is logged.
type later struct{}

func (later) LogValue() slog.Value { return slog.DurationValue(1500 * time.Millisecond) }

type report struct {
	Took  time.Duration `json:"took_ns"`
	Each  []time.Duration
	Next  *report `json:"next,omitempty"`
	Named string  `json:"-"`
	By    map[string]time.Duration
}

// Whatever holds a duration, and in whatever group it stands, it is written as a text, in both
// formats.
func TestNoDurationIsABareNumber(t *testing.T) {
	const d = 1500 * time.Millisecond
	p := d
	kinds := map[string]any{
		"plain": d, "pointer": &p, "none": (*time.Duration)(nil), "list": []time.Duration{d, d},
		"array": [1]time.Duration{d}, "map": map[string]time.Duration{"a": d}, "later": later{},
		"struct": report{
			Took: d, Each: []time.Duration{d}, Next: &report{Took: d}, By: map[string]time.Duration{"b": d},
		},
		"pointer to a struct": &report{Took: d}, "list of structs": []report{{Took: d}},
		"group": slog.GroupValue(slog.Duration("in", d), slog.Any("any", []time.Duration{d})),
	}
	number := regexp.MustCompile(`1500000000|1\.5e`)
	for _, format := range Formats {
		for name, value := range kinds {
			var out bytes.Buffer
			log := New(&out, format, slog.LevelInfo, nil)
			log.Info("m", "x", value)
			log.With("x", value).WithGroup("g").With("y", value).WithGroup("h").Info("m", slog.Group("i", "z", value))
			if said := out.String(); number.MatchString(said) || name != "none" && !strings.Contains(said, "1.5s") {
				t.Errorf("%s, %s: %s", format, name, said)
			}
		}
	}
}

// What holds no duration is written as always.
func TestEverythingElseStaysAsItIs(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	values := []any{"s", "a", "n", 7, "f", 1.5, "t", at, "e", errors.New("no"), "nil", nil, "l", []string{"x"},
		"st", struct{ A int }{1}, "m", map[string]int{"b": 2}}
	for _, format := range Formats {
		var got, want bytes.Buffer
		New(&got, format, slog.LevelInfo, nil).With("k", 1).WithGroup("g").Info("m", values...)
		plain := slog.New(slog.NewJSONHandler(&want, nil))
		if format == "text" {
			plain = slog.New(slog.NewTextHandler(&want, nil))
		}
		plain.With("k", 1).WithGroup("g").Info("m", values...)
		cut := func(b bytes.Buffer) string { return b.String()[strings.Index(b.String(), "level"):] }
		if cut(got) != cut(want) {
			t.Errorf("%s:\n%s\n%s", format, got.String(), want.String())
		}
	}
}

func TestTheLevelCanChange(t *testing.T) {
	var out bytes.Buffer
	level := new(slog.LevelVar)
	log := New(&out, "text", level, func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == "secret" {
			return slog.Attr{}
		}
		return a
	})
	for _, name := range Levels {
		level.Set(Level(name))
		out.Reset()
		log.Debug("1")
		log.Info("2")
		log.Warn("3", "secret", 1)
		log.Error("4")
		if got, want := strings.Count(out.String(), "\n"), 4-int(Level(name)+4)/4; got != want {
			t.Errorf("%s: %d lines, want %d", name, got, want)
		}
		if strings.Contains(out.String(), "secret") {
			t.Error(out.String())
		}
	}
	if CheckLevel("trace") == nil || CheckFormat("xml") == nil || CheckLevel("warn") != nil ||
		CheckFormat("text") != nil {
		t.Error("a level or a format is taken for another")
	}
}
