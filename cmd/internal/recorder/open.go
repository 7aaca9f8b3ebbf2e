package recorder

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/internal/atomicfile"
)

// load reads which problems were told before this start and were not over. They are not told again
// while they stand, and their ends are told. Without a file there are none.
func (w *watched) load(file string) error {
	w.begin()
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var all []api.Problem
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		return err
	}
	for _, p := range all[:min(len(all), maxProblems)] {
		w.problems[[2]string{p.Code, p.Where}] = &problem{Problem: p, told: true}
	}
	return nil
}

// keep writes the file if other problems are told and not over than it has.
func (w *watched) keep(file string) error {
	if !w.changed {
		return nil
	}
	all := []api.Problem{}
	for _, p := range w.problems {
		if p.told {
			all = append(all, p.Problem)
		}
	}
	slices.SortFunc(all, func(a, b api.Problem) int { return strings.Compare(a.Code+" "+a.Where, b.Code+" "+b.Where) })
	b, err := json.Marshal(all)
	if err == nil {
		err = atomicfile.Write(file, b, 0o600)
	}
	w.changed = err != nil
	return err
}
