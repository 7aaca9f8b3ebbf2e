package recorder

import (
	"cmp"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/problems"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// unseenFor is how long it may take after a start until a problem of one of the slow codes is found
// again. All others are found at once.
const unseenFor = 90 * time.Second

var slow = []string{problems.ReplicaMissing, problems.ReplicaUnreachable, problems.NodeMissing, problems.NodeGone}

// kept is the file with the problems that were told and are not over.
type kept struct {
	file    string
	changed bool // changed says that the file lacks what was told.
	failed  bool // failed says that it could not be written the last time.
	log     *slog.Logger
}

// resume begins with the problems that were told before this start and were not over. They are not
// told again while they stand, and their ends are told. Without a file there are none.
func (r *Recorder) resume(file string, now time.Time) *watched {
	w := &watched{kept: kept{file: file, log: r.cfg.Log}}
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

// keep writes the file if other problems are told and not over than it has.
func (w *watched) keep() {
	if !w.kept.changed {
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
	b, err := json.Marshal(all)
	if err == nil {
		err = atomicfile.Write(w.kept.file, b, 0o600)
	}
	if err != nil && !w.kept.failed {
		w.kept.log.Warn("which problems were told cannot be kept: after a restart their ends are not told", "err", err)
	}
	w.kept.changed, w.kept.failed = err != nil, err != nil
}
