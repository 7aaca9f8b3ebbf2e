package listeners

import (
	"fmt"
	"os"
	"strings"

	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// remembered returns the digest of the template that was in force last. It is empty at the first
// start, and if the file cannot be read.
func (c Config) remembered() string {
	if c.Mark == "" {
		return ""
	}
	b, err := os.ReadFile(c.Mark)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// changed tells that another template came into force, and remembers it. The first one is not
// told.
func (c Config) changed(file, before, now string) {
	if before != "" && c.Record != nil {
		c.Record(events.Event{Kind: events.ListenerChanged, Name: file, Version: now, Text: fmt.Sprintf(
			"the listener's template has changed, and every chain is replaced: %s has the digest %s, before %s",
			file, now, before)})
	}
	if c.Mark == "" {
		return
	}
	if err := atomicfile.Write(c.Mark, []byte(now+"\n"), 0o600); err != nil {
		c.Log.Warn("it cannot be kept which template the listener has: a change may not be noticed at the next start",
			"err", err)
	}
}
