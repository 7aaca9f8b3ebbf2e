package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// show prints v in the format of -o. For people, table writes it.
func show[T any](a *app, v T, table func(io.Writer, T)) error {
	switch a.format {
	case "json":
		b, err := toJSON(v, "  ")
		if err != nil {
			return err
		}
		_, err = a.out.Write(b)
		return err
	case "yaml":
		b, err := toYAML(v)
		if err != nil {
			return err
		}
		_, err = a.out.Write(b)
		return err
	}
	w := &firstError{w: a.out}
	t := tabwriter.NewWriter(plain{w}, 0, 0, 2, ' ', tabwriter.DiscardEmptyColumns)
	table(t, v)
	t.Flush()
	return w.err
}

// toJSON returns v as JSON with a newline at the end. It escapes everything that cannot be printed:
// JSON itself would leave much that a terminal obeys.
func toJSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	var out []byte
	for _, r := range b.String() {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			out = utf8.AppendRune(out, r)
		default: // only strings hold such runes
			for _, unit := range utf16.AppendRune(nil, r) {
				out = fmt.Appendf(out, "\\u%04x", unit)
			}
		}
	}
	return out, nil
}

// toYAML returns v as YAML, with the keys that it has in JSON. Where a terminal would obey
// something in it, it stays JSON, which is YAML too and has it escaped. So it does with a text of
// line feeds alone, and the like. Not every reader of YAML understands how they are written.
func toYAML(v any) ([]byte, error) {
	js, err := toJSON(v, "  ")
	if err != nil {
		return nil, err
	}
	y, err := yaml.JSONToYAML(js)
	if err != nil || visible(string(y)) != string(y) || indented.Match(y) {
		return js, nil
	}
	return y, nil
}

// indented is the head of a text of several lines that begins with a space or a line feed.
var indented = regexp.MustCompile(`(?m)[|>][0-9][+-]?$`)

// row writes the cells of one row of a table. A cell stays on one line, and an empty one is a dash.
func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		cells[i] = strings.Map(oneLine, c)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

// list writes a row for each of the things.
func list(w io.Writer, what string, things []string) {
	for _, t := range things {
		row(w, "  "+what+": "+t)
	}
}

func oneLine(r rune) rune {
	if r == '\n' || r == '\t' {
		return ' '
	}
	return r
}

// plain replaces everything that cannot be seen. Names and words come from nodes and clients, and a
// terminal obeys escape sequences.
type plain struct{ w io.Writer }

func (p plain) Write(b []byte) (int, error) {
	if _, err := io.WriteString(p.w, visible(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, s)
}

// legible returns s, in quotes and with escapes if it would not be seen as it is. The name of a
// folder may hold anything, even a line feed.
func legible(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// firstError remembers the first failure, so that the writers of tables need not check each write.
type firstError struct {
	w   io.Writer
	err error
}

func (f *firstError) Write(b []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	var n int
	n, f.err = f.w.Write(b)
	return n, f.err
}

// short is a duration as people read it: 0.42s, 12s, 3m5s, 2h40m, 3d4h.
func short(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.3gs", d.Round(time.Millisecond).Seconds())
	case d < time.Minute-time.Second/2:
		return fmt.Sprintf("%.0fs", d.Seconds())
	case d < time.Hour-time.Second/2:
		return units(d.Round(time.Second), time.Minute, "m", time.Second, "s")
	case d < 24*time.Hour-time.Minute/2:
		return units(d.Round(time.Minute), time.Hour, "h", time.Minute, "m")
	}
	return units(d.Round(time.Hour), 24*time.Hour, "d", time.Hour, "h")
}

func units(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	s := fmt.Sprintf("%d%s", d/big, bigName)
	if rest := d % big / small; rest > 0 {
		s += fmt.Sprintf("%d%s", rest, smallName)
	}
	return s
}

// since is how long ago t was. It is empty for the zero time.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return short(time.Since(t))
}

// until is how long it is until t. It is empty for the zero time.
func until(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case !time.Now().Before(t):
		return "now"
	}
	return "in " + short(time.Until(t))
}
