package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// show prints v as -o asks; table writes the form for people.
func (a *app) show(v any, table func(w io.Writer)) error {
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
	table(t)
	t.Flush()
	return w.err
}

// toJSON ends with a newline. What cannot be printed is escaped, which JSON leaves open for much that a terminal obeys.
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

// row writes the cells of a table's row.
func row(w io.Writer, cells ...string) {
	for i, c := range cells {
		if c == "" {
			c = "-"
		}
		cells[i] = strings.Map(oneLine, c)
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
}

func oneLine(r rune) rune {
	if r == '\n' || r == '\t' {
		return ' '
	}
	return r
}

// plain lets through what can be seen: names and words come from nodes and clients, and a terminal obeys escape sequences.
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

// legible is s, or s in quotes with its escapes where it would not be seen as it is: a folder may be named by anybody, and with a line feed.
func legible(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// firstError remembers the first failure, so that the writers of tables need not look at each.
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

// since is how long ago t was; the zero time is never.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return short(time.Since(t))
}

// until is how long t is ahead.
func until(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case !time.Now().Before(t):
		return "now"
	}
	return "in " + short(time.Until(t))
}
