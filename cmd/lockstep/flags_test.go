package main

import (
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A global flag means the same with every command: none has a flag of its own by that name or
// letter.
func TestNoCommandShadowsAGlobalFlag(t *testing.T) {
	root := (&app{}).root()
	global := root.PersistentFlags()
	seen := 0
	var look func(*cobra.Command)
	look = func(c *cobra.Command) {
		if c != root {
			c.LocalFlags().VisitAll(func(f *pflag.Flag) {
				seen++
				if same := global.Lookup(f.Name); same != nil && same != f {
					t.Errorf("%s has a flag --%s of its own", c.CommandPath(), f.Name)
				}
				if f.Shorthand != "" && global.ShorthandLookup(f.Shorthand) != nil &&
					global.ShorthandLookup(f.Shorthand) != f {
					t.Errorf("%s has a flag -%s of its own", c.CommandPath(), f.Shorthand)
				}
			})
		}
		for _, sub := range c.Commands() {
			look(sub)
		}
	}
	look(root)
	if seen < 50 {
		t.Errorf("only %d flags were seen", seen)
	}
}
