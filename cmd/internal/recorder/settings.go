package recorder

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// Settings records which settings differ from those of the time before, which the file remembers by
// their digests. The first time it records nothing. Values are not told, since some are secret. If
// the file cannot be written, the log says it.
func (r *Recorder) Settings(file string, settings map[string]string) {
	now := map[string]string{}
	for name, value := range settings {
		sum := sha256.Sum256([]byte(name + "=" + value))
		now[name] = hex.EncodeToString(sum[:8])
	}
	var before map[string]string
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &before); err != nil {
			before = nil // it is begun anew
		}
	}
	var changed []string
	for name, digest := range now {
		if was, known := before[name]; known && was != digest {
			changed = append(changed, name)
		}
	}
	slices.Sort(changed)
	if len(changed) > 0 {
		r.Publish(events.Event{Kind: events.Settings, Name: strings.Join(changed, ","), Text: fmt.Sprintf(
			"the configuration has changed: %s", strings.Join(changed, ", "))})
	}
	b, err := json.Marshal(now)
	if err == nil {
		err = atomicfile.Write(file, b, 0o600)
	}
	if err != nil {
		r.cfg.Log.Warn("it cannot be kept which configuration this is: a change is not noticed at the next start",
			"err", err)
	}
}
