package admin

import (
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// importGarbage is how many bytes of garbage may be in memory during an import. Little is in use
// then. Without this the collector would run many times a second, and take a tenth of the
// processors.
const importGarbage = 128 << 20

// garbage is the allowance of this process.
var garbage allowance

// allowance gives the collector more room while somebody holds it.
type allowance struct {
	mu      sync.Mutex
	holders int
	before  int // before is the percentage without holders.
}

// hold raises the room to importGarbage if it is less, until the last holder releases it.
func (a *allowance) hold() (release func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	live, percent := collector()
	if a.holders++; a.holders == 1 {
		a.before = percent
	}
	if want := roomy(live, a.before); want != percent {
		debug.SetGCPercent(want)
	}
	return sync.OnceFunc(func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.holders--; a.holders == 0 {
			debug.SetGCPercent(a.before)
		}
	})
}

// roomy returns how much garbage may be in memory, as a percentage of the live bytes. If it is
// negative, the collector is off.
func roomy(live uint64, percent int) int {
	if percent < 0 {
		return percent
	}
	return max(percent, int(importGarbage*100/max(live, 4<<20))) // Go's own least heap
}

// collector returns how many bytes were in use after the latest collection, and the percentage that
// is set.
func collector() (live uint64, percent int) {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/gogc:percent"}}
	metrics.Read(s)
	return s[0].Value.Uint64(), int(int64(s[1].Value.Uint64()))
}
