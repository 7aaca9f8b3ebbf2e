package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/cmd/internal/bootstrap"
	"github.com/lockstep-tls/lockstep/cmd/internal/pki"
	"github.com/lockstep-tls/lockstep/cmd/internal/stores"
	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/probe"
	"github.com/lockstep-tls/lockstep/seal"
)

// These exit codes are part of the interface: scripts use them.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitDegraded = 3
	exitNotFound = 4
	exitRefused  = 5
	exitTimedOut = 6
)

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string { return e.err.Error() }
func (e exit) Unwrap() error { return e.err }

func fail(code int, format string, args ...any) error { return exit{code, fmt.Errorf(format, args...)} }
func usage(format string, args ...any) error          { return fail(exitUsage, format, args...) }

// exitCode is the code of an error that a command returned.
func exitCode(err error) int {
	var own exit
	var answer *api.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &answer):
		switch answer.Code {
		case api.NotFound:
			return exitNotFound
		case api.Refused, api.Denied:
			return exitRefused
		case api.Usage:
			return exitUsage
		}
		return exitFailed
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimedOut
	case errors.Is(err, keysource.ErrBadTicketKey), errors.Is(err, keysource.ErrBadCertificate),
		errors.Is(err, backup.ErrBad), errors.Is(err, backup.ErrLocked),
		errors.Is(err, backup.ErrRefused), errors.Is(err, stores.ErrNotEmpty), errors.Is(err, stores.ErrFrozen),
		errors.Is(err, seal.ErrReadOnly), errors.Is(err, seal.ErrRefused), errors.Is(err, pki.ErrExists):
		return exitRefused
	case errors.Is(err, keysource.ErrBadName), errors.Is(err, bootstrap.ErrBadOptions),
		errors.Is(err, probe.ErrBadConfig), errors.Is(err, pki.ErrBadRequest):
		return exitUsage
	}
	return exitFailed
}

// report prints what went wrong and returns the exit code.
func (a *app) report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitDone
	}
	if !a.running {
		err = exit{exitUsage, err}
	}
	code := exitCode(err)
	switch err {
	case context.DeadlineExceeded:
		err = fmt.Errorf("no answer from lockstepd within %s (--timeout)", a.limit)
	case context.Canceled:
		err = errors.New("interrupted")
	}
	fmt.Fprintf(a.err, "lockstep: %v\n", advice.Add(err))
	if code == exitUsage {
		fmt.Fprintf(a.err, "see: %s --help\n", cmd.CommandPath())
	}
	return code
}
