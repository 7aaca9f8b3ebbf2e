package recorder

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/internal/aside"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// unseenFor is how long it may take after a start until a problem of one of the slow codes is found
// again. All others are found at once.
const unseenFor = 90 * time.Second

var slow = []string{problems.ReplicaMissing, problems.ReplicaUnreachable, problems.NodeMissing, problems.NodeGone}

// kept is the file with the problems that were told and are not over.
type kept struct {
	file    string
	changed bool // changed says that the file lacks some.
	log     *slog.Logger
	writing aside.Runner // writing writes the file.
	write   func(path string, content []byte, mode fs.FileMode) error
	failed  atomic.Bool // failed says that the file could not be written.
}

// keepWithin is how long a look waits for the disk. Nobody waits for one that hangs still.
const keepWithin = time.Second

// resume begins with the problems that were told before this start and were not over. They are not
// told again while they stand, and their ends are told. Without a file there are none.
func (r *Recorder) resume(file string, now time.Time) *watched {
	w := &watched{kept: kept{file: file, log: r.cfg.Log, write: atomicfile.Write}}
	w.begin()
	all, err := readOpen(file)
	if err != nil {
		r.cfg.Log.Warn("which problems were told before this start is not known: their ends are not told", "err", err)
	}
	for _, p := range all[:min(len(all), maxProblems)] {
		is := &problem{Problem: p, told: true}
		if slices.Contains(slow, p.Code) {
			is.until = now.Add(unseenFor)
		}
		w.problems[[2]string{p.Code, p.Where}] = is
	}
	return w
}

func readOpen(file string) (all []api.Problem, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	return all, err
}

// keep writes the file if other problems are told and not over than it has. While a disk hangs, it
// leaves that to the next look.
func (w *watched) keep() {
	k := &w.kept
	if !k.changed && !k.failed.Load() {
		return
	}
	all := []api.Problem{}
	for _, p := range w.problems {
		if p.told {
			all = append(all, p.Problem)
		}
	}
	slices.SortFunc(all, func(a, b api.Problem) int {
		return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Where, b.Where))
	})
	if k.writing.Do(func() {
		b, err := json.Marshal(all)
		if err == nil {
			err = k.write(k.file, b, 0o600)
		}
		if before := k.failed.Swap(err != nil); err != nil && !before {
			k.log.Warn("which problems were told cannot be kept: after a restart their ends are not told", "err", err)
		}
	}, keepWithin) {
		k.changed = false
	}
}
