package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/archive"
	"github.com/lockstep-tls/lockstep/keysource"
)

func TestAWindowIsSentInOrderAndInBatchesThatAreBounded(t *testing.T) {
	for _, size := range []int{1, 100, importBytes / 5} { // bytes of a pair
		var window batch
		var want []string
		n := min(3*importPairs+7, 4*importBytes/size)
		for i := range n {
			p := archive.Pair{
				Folder: fmt.Sprintf("h%05d", i*7919%n), PEM: keysource.PEM{Chain: make([]byte, size-1), Key: []byte{0}},
			}
			window.add(p)
			want = append(want, p.Folder)
		}
		again := archive.Pair{Folder: "h00000", PEM: keysource.PEM{Chain: []byte("later")}}
		window.add(again)
		want = append(want, again.Folder)
		slices.Sort(want)
		var got []string
		var last []byte // of the folder that comes twice
		window.cut(func(b batch) {
			bytes := 0
			for _, p := range b.pairs {
				got, bytes = append(got, p.Folder), bytes+p.Size()
				if p.Folder == again.Folder {
					last = p.Chain
				}
			}
			if len(b.pairs) > importPairs || bytes != b.size || bytes >= importBytes+size {
				t.Errorf("%d pairs of %d bytes are one batch, of %d and %d", len(b.pairs), size, b.size, bytes)
			}
		})
		if !slices.Equal(got, want) || string(last) != "later" || len(window.pairs) != 0 || window.size != 0 {
			t.Errorf("%d of %d were sent, in order: %v; %d are left",
				len(got), len(want), slices.IsSorted(got), len(window.pairs))
		}
	}
}

// lockstepd takes a second certificate with the first only, and requests may overtake each other.
func TestTwoCertificatesOfAHostAreSentInOneRequest(t *testing.T) {
	var window batch
	add := func(folder string) {
		window.add(archive.Pair{Folder: folder, PEM: keysource.PEM{Chain: []byte("c"), Key: []byte("k")}})
	}
	for i := range importPairs - 1 {
		add(fmt.Sprintf("a%05d.example", i))
	}
	add("b.example:rsa")
	add("b.example.example") // between the two in the order of bytes
	add("b.example")
	var got [][]archive.Pair
	window.cut(func(b batch) { got = append(got, b.pairs) })
	if len(got) != 2 || len(got[0]) != importPairs+1 || got[0][importPairs-1].Folder != "b.example" ||
		got[0][importPairs].Folder != "b.example:rsa" {
		t.Errorf("%d requests: the second certificate of b.example is not with the first", len(got))
	}
}
