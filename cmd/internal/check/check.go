// Package check is what `lockstepd --check` and `lockstep-edge --check` have in common: what was
// found, how it is said, and the exit code.
//
// Its rules:
//
//   - A check calls the functions that a start calls, so that both say the same. What a start does
//     besides reading has a function of its own here ([Dir], [Address]) or beside the one of the
//     start.
//   - Nothing is made, changed, locked or listened on.
//   - All problems are named. A start names the first.
//   - What was not checked is said.
package check

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Report is what a check found. The zero value has found nothing.
type Report struct {
	refused, unwell, notes, checked, left []string
}

// Refused adds errors for which a start would be refused. place says where the setting stands, as
// [settings.Source.Place] does. An error of several lines is several problems.
func (r *Report) Refused(place string, errs ...error) { add(&r.refused, place, errs) }

// Unwell adds errors with which a start would go on, and something would not be well.
func (r *Report) Unwell(place string, errs ...error) { add(&r.unwell, place, errs) }

func add(to *[]string, place string, errs []error) {
	for _, err := range errs {
		for line := range strings.Lines(err.Error()) {
			line = place + strings.TrimSuffix(line, "\n")
			if !slices.Contains(*to, line) {
				*to = append(*to, line)
			}
		}
	}
}

// Note adds something that an operator should know, and that is no problem.
func (r *Report) Note(format string, a ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, a...))
}

// Checked adds what was read and is good.
func (r *Report) Checked(format string, a ...any) {
	r.checked = append(r.checked, fmt.Sprintf(format, a...))
}

// Left adds what a start would find out, and a check does not.
func (r *Report) Left(format string, a ...any) {
	r.left = append(r.left, fmt.Sprintf(format, a...))
}

// Write prints everything, a line each, problems first, and then that a start would go on. If it
// would not, the error is an [Error] instead.
func (r *Report) Write(w io.Writer) error {
	for _, part := range []struct {
		word  string
		lines []string
	}{
		{"refused: ", r.refused}, {"not well: ", r.unwell}, {"note: ", r.notes}, {"checked: ", r.checked},
		{"not checked: ", r.left},
	} {
		for _, line := range part.lines {
			if _, err := fmt.Fprintln(w, part.word+line); err != nil {
				return err
			}
		}
	}
	switch {
	case len(r.refused) > 0:
		return &Error{refusedCode, "a start would be refused: " + problems(len(r.refused)+len(r.unwell))}
	case len(r.unwell) > 0:
		return &Error{unwellCode, "a start would go on, and not be well: " + problems(len(r.unwell))}
	}
	_, err := fmt.Fprintln(w, "a start would go on")
	return err
}

func problems(n int) string {
	if n == 1 {
		return "1 problem"
	}
	return fmt.Sprintf("%d problems", n)
}

// Error is the verdict of a check that has found problems. They were printed.
type Error struct {
	code int
	text string
}

func (e *Error) Error() string { return e.text }

// The exit codes are those of lockstep.
const (
	failedCode  = 1
	usageCode   = 2
	unwellCode  = 3
	refusedCode = 5
)

// ExitCode returns the exit code of a program that ends with err. args are those of its command
// line. Only a check tells wrong use from other failures.
func ExitCode(err error, args []string) int {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.code
	case slices.Contains(args, "--check"):
		return usageCode
	}
	return failedCode
}

// Dir returns why [os.MkdirAll] would fail, or why nothing can be written to the directory that is
// there.
func Dir(path string) (exists bool, err error) {
	path, err = filepath.Abs(path)
	if err != nil {
		return false, err
	}
	first := path // the first one that would be made
	for at := path; ; at = filepath.Dir(at) {
		st, err := os.Stat(at)
		switch {
		case err == nil && !st.IsDir():
			return false, &fs.PathError{Op: "mkdir", Path: at, Err: syscall.ENOTDIR}
		case err == nil && at == path:
			return true, access(at, at, "open")
		case err == nil:
			return false, access(at, first, "mkdir")
		case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR), at == filepath.Dir(at):
			return false, err
		}
		first = at
	}
}

// access returns why nothing can be written to a directory. The error names path.
func access(dir, path, op string) error {
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: op, Path: path, Err: err}
	}
	return nil
}

// Address returns why nobody could listen on host:port, whoever else does.
func Address(addr string) error {
	if _, err := net.ResolveTCPAddr("tcp", addr); err != nil {
		return &net.OpError{Op: "listen", Net: "tcp", Err: err}
	}
	return nil
}
