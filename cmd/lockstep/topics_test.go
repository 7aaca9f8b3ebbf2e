package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Every group of commands refuses a command that it does not have, and help a topic that there is
// not: with the exit code of usage, and nothing on standard output.
func TestNoCommandTakesANameThatItDoesNotHave(t *testing.T) {
	var lines [][]string
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		lines = append(lines, append(append([]string{"help"}, path...), "nosuch"))
		if !c.HasSubCommands() {
			return
		}
		lines = append(lines, append(path[:len(path):len(path)], "nosuch"))
		for _, sub := range c.Commands() {
			walk(sub, append(path[:len(path):len(path)], sub.Name()))
		}
	}
	walk(new(app).root(), nil)
	if len(lines) < 40 {
		t.Fatalf("only %d command lines: %q", len(lines), lines)
	}
	for _, args := range lines {
		var out, errs bytes.Buffer
		code := run(t.Context(), args, nil, &out, &errs)
		if code != exitUsage || out.Len() > 0 || !strings.Contains(errs.String(), "nosuch") ||
			!strings.Contains(errs.String(), "see: lockstep") {
			t.Errorf("lockstep %s: exit code %d, printed %q, said %q", strings.Join(args, " "), code, &out, &errs)
		}
	}
}
