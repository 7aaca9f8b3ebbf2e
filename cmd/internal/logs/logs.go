// Package logs makes the logger of a program. Durations in a log are texts, such as 1.5s: the
// handlers of package slog write them as a number of nanoseconds, which nobody can read.
package logs

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
)

// The defaults of the settings log_level and log_format.
const (
	DefaultLevel  = "info"
	DefaultFormat = "json"
)

var (
	// Levels are the values of log_level, from most to least.
	Levels = []string{"debug", "info", "warn", "error"}
	// Formats are the values of log_format.
	Formats = []string{"json", "text"}
)

// CheckLevel refuses a level that there is not.
func CheckLevel(level string) error { return oneOf("log_level", level, Levels) }

// CheckFormat refuses a format that there is not.
func CheckFormat(format string) error { return oneOf("log_format", format, Formats) }

func oneOf(key, value string, all []string) error {
	if !slices.Contains(all, value) {
		return fmt.Errorf("%s: %q is none of %s", key, value, strings.Join(all, ", "))
	}
	return nil
}

// Level returns a level of Levels.
func Level(level string) slog.Level {
	return map[string]slog.Level{
		"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[level] // info is 0
}

// New returns a logger that writes to w in a format of Formats. level may change later. more, if it
// is not nil, is a [slog.HandlerOptions].ReplaceAttr that sees what is written of each attribute.
func New(w io.Writer, format string, level slog.Leveler, more func([]string, slog.Attr) slog.Attr) *slog.Logger {
	o := &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		a.Value = readable(a.Value)
		if more != nil {
			a = more(groups, a)
		}
		return a
	}}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}
