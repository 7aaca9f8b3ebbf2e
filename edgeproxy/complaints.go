package edgeproxy

import (
	"bytes"
	"log/slog"
	"time"
)

// complaints takes the lines that net/http writes, since its log knows only text. Each becomes one
// line of the log. Clients can cause most of them, so that they are limited.
type complaints struct {
	log   *slog.Logger
	lines *lines
}

func newComplaints(log *slog.Logger) *complaints { return &complaints{log, newLines()} }

func (c *complaints) Write(b []byte) (int, error) {
	line := string(bytes.TrimSpace(b))
	if first, stack, ok := bytes.Cut(bytes.TrimSpace(b), []byte("\n")); ok && bytes.Contains(first, []byte("panic")) {
		c.log.Error("net/http", "says", string(first), "stack", string(stack))
		return len(b), nil
	}
	if leftOut, ok := c.lines.next(time.Now()); ok {
		c.log.Warn("net/http", "says", line, "others_left_out", leftOut)
	}
	return len(b), nil
}
