// Package kek opens the source of the sealing key for a program. Package seal says what is wrong
// with a source; this one adds what an operator types.
package kek

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/lockstep-tls/lockstep/seal"
)

// Source is [seal.Source], whose errors say what to type.
func Source(setting string) (seal.Keys, error) {
	k, err := seal.Source(setting)
	if err != nil {
		return nil, err
	}
	return helpful{k}, nil
}

// File is [seal.File], whose errors say what to type.
func File(path string) seal.Keys { return helpful{seal.File(path)} }

// LookForNew returns why no sealing key could be made where a setting says, if there is none. Of a
// source that only others write it knows nothing.
func LookForNew(setting string) error {
	if strings.HasPrefix(setting, "credential:") || strings.HasPrefix(setting, "env:") {
		return nil
	}
	dir, err := os.Open(filepath.Dir(setting))
	if err != nil {
		return fmt.Errorf("seal: %s: %w", seal.File(setting), err)
	}
	return dir.Close()
}

// helpful is a source whose errors say what to type.
type helpful struct{ seal.Keys }

// byHand follows the words of a source that cannot be written, which end with "rotate by hand".
const byHand = "`lockstep kek rotate --file COPY` on a copy of the keyset adds a key that only opens; " +
	"put the copy in its place at each replica, and restart those that took it from the environment; " +
	"the same again has the new key seal, and lockstepd re-seals what is stored; " +
	"`lockstep kek status` shows who has what; before the old key goes (`--file COPY --retire`), " +
	"`lockstep kek retire` proves that nothing needs it"

// Save implements [seal.Keys].
func (h helpful) Save(ctx context.Context, old, b []byte) error {
	err := h.Keys.Save(ctx, old, b)
	if errors.Is(err, seal.ErrReadOnly) {
		return fmt.Errorf("%w: %s", err, byHand)
	}
	return err
}
