package server

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable makes what a peer wrote fit to be shown on one line. The result has at most limit
// bytes, no control characters, and is valid UTF-8.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") // the cut may split a character
	}
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	// Each replacement is one byte, so the result stays within limit.
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unprintable(r):
			return '?'
		}
		return r
	}, s)
}

func unprintable(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
