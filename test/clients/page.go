package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	opening = "<!-- what follows is written by make clients -->\n"
	closing = "<!-- what make clients writes ends here -->\n"
)

// write replaces what stands between the marks of a page.
func write(page, text string) error {
	b, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(b), opening)
	_, after, ok2 := strings.Cut(rest, closing)
	if !ok || !ok2 {
		return fmt.Errorf("%s: the marks are missing: put %q and %q where the tables go", page, opening, closing)
	}
	return os.WriteFile(page, []byte(before+opening+"\n"+text+"\n"+closing+after), 0o644)
}

// tables has one for each kind of nodes, and one of early data.
func tables(day time.Time, s *stage, versions []string, all []*journey, offers []*offer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s, with:\n\n", day.UTC().Format("2 January 2006"))
	for _, v := range versions {
		fmt.Fprintf(&b, "- %s\n", v)
	}
	for k, kind := range s.kinds {
		fmt.Fprintf(&b, "\n## Sessions of %s\n\n", kind.name)
		b.WriteString("| client | TLS |")
		for _, st := range itinerary {
			fmt.Fprintf(&b, " %s |", st.name)
		}
		fmt.Fprintf(&b, "\n|---|---|%s\n", strings.Repeat("---|", len(itinerary)))
		for _, j := range all {
			if j.kind != k {
				continue
			}
			fmt.Fprintf(&b, "| %s | %s |", j.client.name, j.version)
			for _, resumed := range j.resumed {
				switch {
				case j.err != nil:
					b.WriteString(" failed |")
				case resumed:
					b.WriteString(" yes |")
				default:
					b.WriteString(" – |")
				}
			}
			b.WriteString("\n")
		}
	}
	if len(offers) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "\n## 0-RTT, with a ticket of another server\n\n| client | %s | %s |\n|---|---|---|\n",
		s.kinds[0].name, s.kinds[1].name)
	for i := 0; i < len(offers); i += len(s.kinds) {
		fmt.Fprintf(&b, "| %s |", offers[i].client.name)
		for k := range s.kinds {
			fmt.Fprintf(&b, " %s |", offers[i+k].words())
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (o *offer) words() string {
	switch {
	case !o.offered:
		return "offers none"
	case o.fails == 0:
		return "goes on"
	case o.fails == 1:
		return "one request fails"
	case o.fails == tries:
		return "all requests fail"
	}
	return fmt.Sprintf("%d requests fail", o.fails)
}
