package audit

import (
	"fmt"
	"strconv"
	"strings"
)

// Head names the last line of a chain: its number, and its MAC, which covers all the lines
// before. It is no secret.
type Head struct {
	Chain  string // store, file/<replica>, syslog/<replica>
	Number uint64 // from 1
	MAC    string
}

// IsZero reports whether h names no line.
func (h Head) IsZero() bool { return h.Number == 0 }

// Ref is the line's number and chain, such as 42@store. It is empty if h names no line.
func (h Head) Ref() string {
	if h.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d@%s", h.Number, h.Chain)
}

// String is Ref with the MAC, such as 42@store:s3mE…. It is empty if h names no line. [ParseHead]
// reads it.
func (h Head) String() string {
	if h.IsZero() {
		return ""
	}
	return h.Ref() + ":" + h.MAC
}

// ParseHead undoes [Head.String].
func ParseHead(s string) (Head, error) {
	ref, mac, ok := strings.Cut(s, ":")
	n, chain, ok2 := strings.Cut(ref, "@")
	number, err := strconv.ParseUint(n, 10, 64)
	if !ok || !ok2 || err != nil || number == 0 || chain == "" || !isMAC(mac) {
		return Head{}, fmt.Errorf("audit: %.80q names no line of the audit log", s)
	}
	return Head{Chain: chain, Number: number, MAC: mac}, nil
}

// parseRef undoes [Head.Ref]. ok is false if it names no line of chain.
func parseRef(ref, chain string) (number uint64, ok bool) {
	n, in, _ := strings.Cut(ref, "@")
	number, err := strconv.ParseUint(n, 10, 64)
	return number, err == nil && in == chain && number > 0
}
