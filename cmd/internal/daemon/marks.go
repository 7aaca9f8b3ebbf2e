package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"sync"

	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// marks is a [fleet.HighestSent] in a file of the data directory: the high-water mark of each scope's ring. It is not synced: after a power failure the
// last one may be missing, and the one before serves nearly as well.
type marks struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	scopes map[string]uint64
}

func openMarks(path string, log *slog.Logger) (*marks, error) {
	m := &marks{path: path, log: log, scopes: map[string]uint64{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &m.scopes); err != nil {
		return nil, fmt.Errorf("%s is not the marks that lockstepd writes: %w; remove it if the store is known to be as it was", path, err)
	}
	for scope, mark := range m.scopes {
		if mark > maxMark {
			return nil, fmt.Errorf("%s says that scope %s has reached g%d, which no fleet does; remove it if the store is known to be as it was", path, scope, mark)
		}
	}
	return m, nil
}

// maxMark leaves rotation numbers to go on with: a ring that is put back is replaced by one above its mark.
const maxMark = 1 << 52

// Highest implements [fleet.HighestSent].
func (m *marks) Highest(scope string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.scopes[scope]
}

// Raise implements [fleet.HighestSent].
func (m *marks) Raise(scope string, generation uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if generation <= m.scopes[scope] {
		return
	}
	m.scopes[scope] = generation
	b, err := json.Marshal(maps.Clone(m.scopes))
	if err == nil {
		err = atomicfile.Write(m.path, b, 0o600)
	}
	if err != nil {
		m.log.Warn("the high-water mark of a ring cannot be written: a store that is put back would not be noticed after a restart", "file", m.path, "err", err)
	}
}
