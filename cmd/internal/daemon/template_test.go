package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
)

// A change of the template is an event with both digests, also if lockstepd was not running. A
// restart tells nothing anew.
func TestAChangeOfTheListenersTemplateIsAnEvent(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "listener.yaml")
	text, err := os.ReadFile("../../../deploy/envoy/listener.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write := func(comment string) {
		t.Helper()
		if err := os.WriteFile(file, append(text, "# "+comment+"\n"...), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	in := func(c *config.Config) {
		c.DataDir, c.Listeners.Template, c.Refresh = filepath.Join(dir, "data"), file, 100*time.Millisecond
	}
	write("one")
	r := start(t, in)
	has := func(n int) (last api.Event) {
		t.Helper()
		eventually(t, func() string {
			page, err := r.client.Events(t.Context(), api.EventsQuery{Kind: "listener-changed"})
			if err != nil || len(page.Events) != n {
				return fmt.Sprintf("%+v %v, want %d events", page.Events, err, n)
			}
			if n > 0 {
				last = page.Events[n-1]
			}
			return ""
		})
		return last
	}
	again := func() {
		t.Helper()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		r = start(t, in)
	}
	again()
	write("two")
	first := has(1)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	write("three")
	r = start(t, in)
	second := has(2)
	if first.Name != file || first.Version == "" || !strings.HasSuffix(second.Text, "before "+first.Version) ||
		second.Version == first.Version {
		t.Errorf("%+v, then %+v", first, second)
	}
	again()
	has(2)
}
