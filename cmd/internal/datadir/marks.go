package datadir

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

// Marks is a [fleet.HighestSent] in a file: the highest generation of each scope's ring that this
// replica has seen. A store that is put back is noticed by it.
type Marks struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	scopes map[string]uint64
}

// OpenMarks reads the file. A file that is missing holds no marks.
func OpenMarks(path string, log *slog.Logger) (*Marks, error) {
	m := &Marks{path: path, log: log, scopes: map[string]uint64{}}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &m.scopes); err != nil {
		return nil, fmt.Errorf("%s is not the marks that lockstepd writes: %w; "+
			"remove it if the store is known to be as it was", path, err)
	}
	for scope, mark := range m.scopes {
		if mark > maxMark {
			return nil, fmt.Errorf("%s says that scope %s has reached g%d, which no fleet does; "+
				"remove it if the store is known to be as it was", path, scope, mark)
		}
	}
	return m, nil
}

// maxMark leaves generations to go on with. A ring that is put back is replaced by one above its
// mark.
const maxMark = 1 << 52

// Highest implements [fleet.HighestSent].
func (m *Marks) Highest(scope string) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.scopes[scope]
}

// Raise implements [fleet.HighestSent].
func (m *Marks) Raise(scope string, generation uint64) {
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
		m.log.Warn("the high-water mark of a ring cannot be written: "+
			"a store that is put back would not be noticed after a restart", "file", m.path, "err", err)
	}
}
