package main

import (
	"testing"

	manual "github.com/lockstep-tls/lockstep/test/pages"
)

func TestReferenceOfTheCommands(t *testing.T) {
	manual.Golden(t, "docs/reference/lockstep.md", manual.CommandPage((&app{}).root()))
}

func TestCommandsOfThePagesAreUnderstood(t *testing.T) {
	all := manual.Commands(manual.All(t), "lockstep")
	for _, c := range all {
		if err := manual.Check((&app{}).root(), c); err != nil {
			t.Errorf("%s: %v", c, err)
		}
	}
	if len(all) < 100 {
		t.Fatalf("only %d commands were found", len(all))
	}
}
