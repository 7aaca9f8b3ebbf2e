package keysource

import (
	"testing"

	"pgregory.net/rapid"
)

// What is passed over as plain is what the whole work would have made of it.
func TestAPlainNameIsItsOwnNormalForm(t *testing.T) {
	names := rapid.OneOf(
		rapid.StringMatching(`[a-z0-9-]{1,5}(\.[a-z0-9-]{1,5}){0,4}`),
		rapid.StringMatching(`([a-zA-Z0-9_-]{0,4}|xn--[a-z0-9]{0,3})(\.[a-z0-9-]{0,4}){0,17}\.?`),
		rapid.StringMatching(`([a-z0-9-]{0,4}\.)?[a-z]{61,64}(\.[a-z0-9-]{61,64}){0,4}`),
		rapid.StringMatching(`[0-9]{1,3}(\.[0-9]{1,3}){0,4}`),
	)
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		s := names.Draw(t, "name")
		if !plain(s) {
			return
		}
		taken++
		if n, err := normal(s); err != nil || string(n) != s {
			t.Fatalf("%q is plain, and comes out as %q, %v", s, n, err)
		}
	})
	least := 5
	if testing.Short() { // few names are drawn
		least = 1
	}
	if taken < least {
		t.Fatalf("only %d of the names were plain", taken)
	}
}
