package seal

import (
	"context"
	"errors"
	"strings"
)

// Keys is where a keyset is kept. A KMS implements it by keeping the bytes encrypted under a key
// of its own. All methods are safe for concurrent use, and their errors have none of the bytes.
type Keys interface {
	// Load returns the keyset: Tink's JSON, in the clear. An error that wraps fs.ErrNotExist means
	// that there is certainly none.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces old by b, which is durable when it returns. A nil old means that there was no
	// keyset: the error wraps fs.ErrExist if there is one by now. If the source has another keyset
	// than old, the error wraps ErrConflict. If it cannot be written from here, the error wraps
	// ErrReadOnly, and its text ends with the advice to rotate by hand.
	Save(ctx context.Context, old, b []byte) error
	// String names the source for people.
	String() string
}

var (
	// ErrConflict means that the source has another keyset than the one that was to be replaced.
	ErrConflict = errors.New("the keyset was changed by somebody else")
	// ErrReadOnly means that the source can be changed only from outside.
	ErrReadOnly = errors.New("cannot be written from here")
)

// byHand ends the text of the error of a read-only source. Programs add what to type.
const byHand = "rotate by hand"

// Source returns the Keys that a setting names: credential:NAME, env:VARIABLE, or the path of a
// file.
func Source(setting string) (Keys, error) {
	kind, name, ok := strings.Cut(setting, ":")
	switch {
	case ok && kind == "credential":
		return newCredential(name)
	case ok && kind == "env":
		return newVariable(name)
	case setting == "":
		return nil, errors.New("seal: no source of the sealing key is named: a file, credential:NAME or env:VARIABLE")
	}
	return File(setting), nil
}
