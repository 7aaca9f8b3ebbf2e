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

// lockstepd refuses a second certificate without a first one. Requests are under way at once.
func TestTheTwoCertificatesOfAHostGoTogether(t *testing.T) {
	for at := importPairs - 2; at <= importPairs+1; at++ {
		var window batch
		for i := range 2*importPairs + 5 {
			window.add(archive.Pair{Folder: fmt.Sprintf("h%05d.example", i)})
			if i == at {
				window.add(archive.Pair{Folder: fmt.Sprintf("h%05d.example.com", i)})
				window.add(archive.Pair{Folder: fmt.Sprintf("h%05d.example:rsa", i)})
			}
		}
		both := 0
		window.cut(func(b batch) {
			names := map[string]bool{}
			for _, p := range b.pairs {
				names[p.Folder] = true
			}
			if len(b.pairs) > importPairs+1 {
				t.Errorf("%d pairs in one request", len(b.pairs))
			}
			if host := fmt.Sprintf("h%05d.example", at); names[host] && names[host+":rsa"] {
				both++
			}
		})
		if both != 1 {
			t.Errorf("the two behind %d pairs do not go together", at)
		}
	}
}
