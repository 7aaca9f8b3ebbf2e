package store_test

import (
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/store"
	"pgregory.net/rapid"
)

func TestKey(t *testing.T) {
	for _, c := range []struct {
		segments []string
		want     string
	}{
		{[]string{"cert", "shop.example"}, "cert/shop.example"},
		{[]string{"cert", "*.shop.example"}, "cert/=2A.shop.example"},
		{[]string{"ring", "a/b"}, "ring/a=2Fb"},
		{[]string{"ring", "="}, "ring/=3D"},
		{[]string{"ring", ""}, "ring/"},
		{[]string{"node", "é\x00"}, "node/=C3=A9=00"},
	} {
		if got := store.Key(c.segments...); got != c.want {
			t.Errorf("Key(%q) = %q, want %q", c.segments, got, c.want)
		}
	}
}

func TestKeyRoundTrip(t *testing.T) {
	anyBytes := rapid.Custom(func(t *rapid.T) string { return string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) })
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.SliceOfN(anyBytes, 1, 4).Draw(t, "a"), rapid.SliceOfN(anyBytes, 1, 4).Draw(t, "b")
		key := store.Key(a...)
		if strings.Count(key, "/") != len(a)-1 {
			t.Fatalf("Key(%q) = %q: a slash must part segments only", a, key)
		}
		if strings.Trim(key, "/=._-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			t.Fatalf("Key(%q) = %q holds what NATS forbids", a, key)
		}
		if got, err := store.Segment(key); err != nil || got != a[len(a)-1] {
			t.Fatalf("Segment(%q) = %q, %v, want %q", key, got, err, a[len(a)-1])
		}
		same := strings.Join(a, "\x00/") == strings.Join(b, "\x00/") && len(a) == len(b)
		if (key == store.Key(b...)) != same {
			t.Fatalf("Key(%q) and Key(%q) are both %q", a, b, key)
		}
	})
}

func TestSegmentRefusesBadEscapes(t *testing.T) {
	for _, key := range []string{"a/=", "a/x=2", "a/=ZZ", "a/=2G", "a/= 2", "a/=+2"} {
		if got, err := store.Segment(key); err == nil || !strings.Contains(err.Error(), "badly escaped") {
			t.Errorf("Segment(%q) = %q, %v, want an error", key, got, err)
		}
	}
}

// FuzzSegment: whatever the bytes, Segment answers or refuses, and what it answers makes a key that
// reads back the same.
func FuzzSegment(f *testing.F) {
	for _, seed := range []string{"", "/", "a/=2A.example", "=", "a/=2", "=ff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		segment, err := store.Segment(key)
		if err != nil {
			return
		}
		if again, err := store.Segment(store.Key("x", segment)); err != nil || again != segment {
			t.Fatalf("Segment(%q) = %q, which reads back as %q, %v", key, segment, again, err)
		}
	})
}
