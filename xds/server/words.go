package server

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable makes what a peer wrote fit to be shown on one line: at most limit bytes, no control characters, valid UTF-8.
func printable(s string, limit int) string {
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") // the cut may go through a character
	}
	if !strings.ContainsFunc(s, unprintable) {
		return s
	}
	return strings.Map(func(r rune) rune { // each replacement is one byte: the result stays within limit
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
