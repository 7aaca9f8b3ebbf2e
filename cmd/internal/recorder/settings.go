package recorder

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/events"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// maxSettings bounds the settings that a line names.
const maxSettings = 20

// Settings records which settings differ from those of the time before, which the file remembers.
// It takes keyed digests; see [settings.Flat.Digests]. The first time, and after a change of the
// key, it records nothing. If the file cannot be written, the log says it.
func (r *Recorder) Settings(file string, now map[string]string) {
	var mark struct {
		Digests map[string]string `json:"digests"`
	}
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &mark); err != nil {
			mark.Digests = nil // it is begun anew
		}
	}
	if before := mark.Digests; before != nil && before[""] == now[""] {
		r.tellSettings(before, now)
	}
	mark.Digests = now
	b, err := json.Marshal(mark)
	if err == nil {
		err = atomicfile.Write(file, b, 0o600)
	}
	if err != nil {
		r.cfg.Log.Warn("it cannot be kept which configuration this is: a change is not noticed at the next start",
			"err", err)
	}
}

func (r *Recorder) tellSettings(before, now map[string]string) {
	var changed []string
	for name, digest := range now {
		if before[name] != digest {
			changed = append(changed, name)
		}
	}
	for name := range before {
		if _, stands := now[name]; !stands {
			changed = append(changed, name)
		}
	}
	if len(changed) == 0 {
		return
	}
	slices.Sort(changed)
	// What stands below a scope that is new, or gone, is not named.
	all := changed
	changed = slices.DeleteFunc(slices.Clone(all), func(name string) bool {
		i := strings.LastIndexByte(name, '.')
		_, below := slices.BinarySearch(all, name[:max(i, 0)])
		return i > 0 && below
	})
	if more := len(changed) - maxSettings; more > 0 {
		changed = append(changed[:maxSettings], fmt.Sprintf("%d more", more))
	}
	r.Publish(events.Event{Kind: events.Settings, Name: strings.Join(changed, ","), Text: fmt.Sprintf(
		"the configuration has changed: %s", strings.Join(changed, ", "))})
}
