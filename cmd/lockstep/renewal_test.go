package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// A CA issues both for the same names, so the two contexts are mostly equal.
func TestAPlanSaysThatASecondCertificateEndsTickets(t *testing.T) {
	r := secondAdded("shop.example:rsa", "0123", "0123")
	var b bytes.Buffer
	renewalTable(&b, r)
	want := "It ends the session tickets of shop.example, and clients make a full handshake next (context 0123 " +
		"becomes 0123+0123):"
	if !strings.Contains(b.String(), want) || !slices.Equal(r.Ended, []string{"TLS 1.2", "TLS 1.3"}) {
		t.Errorf("%s%+v", b.String(), r)
	}
}
