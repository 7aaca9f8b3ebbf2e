package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

// progress shows how a long command gets on. On a terminal it is one line that is rewritten in
// place. Elsewhere it is a line for each change, and one every everySoOften, so that a log shows
// that the command is alive.
type progress struct {
	w     io.Writer
	tty   *terminal // tty is nil if w is no terminal.
	begun time.Time
	news  string    // news is what the last line said.
	at    time.Time // at is when the last line was written.
}

// everySoOften is the pause between lines that say nothing new.
const everySoOften = 10 * time.Second

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, begun: time.Now()}
	if t, ok := w.(terminal); ok {
		p.tty = &t
	}
	return p
}

func (p *progress) show(r api.Rotation) {
	news := fmt.Sprintf("rotation %d of %s: %s, accepted by %d of %d", r.Rotation, r.Scope,
		phaseText(r.Phase, true), r.Nodes.Accepted, r.Nodes.Live)
	p.line(news, strings.Join(r.BlockedBy, "; "))
}

func (p *progress) lost(r api.Rotation, err error) {
	p.line(fmt.Sprintf("rotation %d of %s: trying again", r.Rotation, r.Scope), err.Error())
}

// line writes news, and details that change too often to be news.
func (p *progress) line(news, details string) {
	text := fmt.Sprintf("%s, %s", news, short(time.Since(p.begun).Round(pollEvery)))
	if details != "" {
		text += "; " + details
	}
	text = strings.Map(oneLine, text)
	if p.tty != nil {
		// The file itself is written, since p.w would replace the escape sequence.
		fmt.Fprintf(p.tty.file, "\r\x1b[K%s", cut(visible(text), width(p.tty.file)-1))
		return
	}
	if news != p.news || time.Since(p.at) >= everySoOften {
		fmt.Fprintln(p.w, text)
		p.news, p.at = news, time.Now()
	}
}

// clear takes the line off the terminal.
func (p *progress) clear() {
	if p.tty != nil {
		fmt.Fprint(p.tty.file, "\r\x1b[K")
	}
}

// cut shortens s to n runes, so that it stays on one line of a terminal.
func cut(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:max(n-1, 0)]) + "…"
	}
	return s
}

// count shows how many of a great number are done, elsewhere than on a terminal only every
// everySoOften.
func (p *progress) count(news string, n int) {
	if p.at.IsZero() {
		p.at = p.begun
	}
	if p.tty == nil && time.Since(p.at) < everySoOften {
		return
	}
	p.line(news, fmt.Sprintf("%.0f a second", float64(n)/time.Since(p.begun).Seconds()))
}
