package listeners

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/lockstep-tls/lockstep/events"
)

// Whoever serves the listener waits for no disk: another goroutine writes the newest digest.
func TestATemplateIsRememberedByAnotherGoroutine(t *testing.T) {
	t.Parallel()
	told := 0
	c := Config{
		Mark: filepath.Join(t.TempDir(), "mark"), Record: func(events.Event) { told++ },
		Log: slog.New(slog.DiscardHandler), newest: make(chan string, 1),
	}
	for i := range 5 {
		c.changed("listener.yaml", "before", fmt.Sprint("digest ", i))
	}
	if _, err := os.Stat(c.Mark); !errors.Is(err, fs.ErrNotExist) || told != 5 {
		t.Errorf("%d changes were told, and the disk was written: %v", told, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.remember(ended); err != nil || c.remembered() != "digest 4" {
		t.Errorf("remembered is %q: %v", c.remembered(), err)
	}
}
