package reload

import (
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Difference is a setting of which two configurations say something else.
type Difference struct {
	Key string
	Now string // Now is the value in force.
	New string // New is the value in the file.
}

// Compare returns the differences of two configurations, by key. Each holds its settings as
// [settings.Flat] has them as texts. A key that one of them lacks has no value there.
func Compare(now, next map[string]string) (all []Difference) {
	add := func(d Difference) {
		if !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if value, ok := next[key]; !ok {
			whole, shown := missing(key, now[key], next)
			add(Difference{Key: whole, Now: shown})
		} else if value != now[key] {
			add(Difference{key, now[key], value})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(next)) {
		if _, ok := now[key]; !ok {
			whole, shown := missing(key, next[key], now)
			add(Difference{Key: whole, New: shown})
		}
	}
	return all
}

// missing returns the shortest key above key of which from has nothing, so that a scope or a route
// that is gone is one difference. value is that of key.
func missing(key, value string, from map[string]string) (whole, shown string) {
	for i := range key {
		if key[i] != '.' && key[i] != '[' || i == 0 {
			continue
		}
		above := key[:i]
		if !slices.ContainsFunc(slices.Collect(maps.Keys(from)), func(k string) bool {
			return k == above || strings.HasPrefix(k, above+".") || strings.HasPrefix(k, above+"[")
		}) {
			return above, "what is set there"
		}
	}
	return key, value
}

// maxShown bounds the characters of a value in a sentence.
const maxShown = 80

// shown returns a value for a sentence.
func shown(value string) string {
	switch {
	case value == "":
		return "nothing"
	case utf8.RuneCountInString(value) > maxShown:
		return string([]rune(value)[:maxShown]) + "…"
	}
	return value
}
