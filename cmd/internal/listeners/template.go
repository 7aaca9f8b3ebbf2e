package listeners

import (
	"context"
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

// changed tells that another template came into force, and has it remembered. The first one is not
// told. It waits for no disk.
func (c Config) changed(file, before, now string) {
	if before != "" && c.Record != nil {
		c.Record(events.Event{Kind: events.ListenerChanged, Name: file, Version: now, Text: fmt.Sprintf(
			"the listener's template has changed, and every chain is replaced: %s has the digest %s, before %s",
			file, now, before)})
	}
	for { // the newest counts
		select {
		case c.newest <- now:
			return
		default:
		}
		select {
		case <-c.newest:
		default:
		}
	}
}

// remember writes the digests of templates until ctx ends. One that is there by then is written,
// too. A disk that hangs holds up nobody else.
func (c Config) remember(ctx context.Context) error {
	for {
		select {
		case now := <-c.newest:
			c.write(now)
		case <-ctx.Done():
			select {
			case now := <-c.newest:
				c.write(now)
			default:
			}
			return nil
		}
	}
}

func (c Config) write(digest string) {
	if c.Mark == "" {
		return
	}
	if err := atomicfile.Write(c.Mark, []byte(digest+"\n"), 0o600); err != nil {
		c.Log.Warn("it cannot be kept which template the listener has: a change may not be noticed at the next start",
			"err", err)
	}
}
