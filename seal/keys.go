package seal

import (
	"context"
	"errors"
	"strings"
)

// Keys is where a keyset is kept. A KMS implements it by keeping the bytes encrypted under a key of its own. All methods are safe for
// concurrent use, and no error of theirs holds any of the bytes.
type Keys interface {
	// Load returns the keyset: Tink's JSON, in the clear. An error that wraps fs.ErrNotExist says for certain that there is none.
	Load(ctx context.Context) ([]byte, error)
	// Save replaces old by b, which is durable when it returns. A nil old is for a keyset where there was none: the error wraps fs.ErrExist if
	// there is one by now. If the source holds another one than old, the error wraps ErrConflict, and ErrReadOnly if it cannot be written from here:
	// then its text ends with the advice to rotate by hand.
	Save(ctx context.Context, old, b []byte) error
	// String names the source for people.
	String() string
}

var (
	// ErrConflict: the source holds another keyset than the one that was to be replaced.
	ErrConflict = errors.New("the keyset was changed by somebody else")
	// ErrReadOnly: the source can only be changed from outside.
	ErrReadOnly = errors.New("cannot be written from here")
)

// byHand ends the words of a read-only source. Programs add what to type.
const byHand = "rotate by hand"

// Source is the Keys that a setting names: credential:NAME, env:VARIABLE, or the path of a file.
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
