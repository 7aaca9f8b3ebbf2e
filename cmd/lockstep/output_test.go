package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"
)

func TestYAMLReadsBackAsTheSameValue(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"", "n", "on", "1e3", "null", "~", "0x10", "a: b", "# x", "- a", "{}", "[", "&a", "*b", "!t", "%d", "@", "|",
		" lead", "trail ", "\n\n a\n", "a\r\nb", "<<", "12:30", "\x1b[2J",
	}))
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaf := rapid.OneOf(text.AsAny(), rapid.Bool().AsAny(), rapid.Uint32().AsAny(), rapid.Just(any(nil)))
		if depth == 0 {
			return leaf
		}
		return rapid.OneOf(leaf, rapid.SliceOfN(value(depth-1), 0, 4).AsAny(),
			rapid.MapOfN(rapid.StringMatching(`[a-df-mo-x][a-z_]{0,8}`), value(depth-1), 0, 4).AsAny())
	}
	rapid.Check(t, func(t *rapid.T) {
		want := map[string]any{"top": value(3).Draw(t, "value")}
		b, err := toYAML(want)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(string(b), "\x1b\r\x7f") {
			t.Fatalf("what a terminal obeys is in it: %q", b)
		}
		var got any
		if err := yaml.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
		if a, b := normal(t, want), normal(t, got); !reflect.DeepEqual(a, b) {
			t.Fatalf("wrote %v, read %v", a, b)
		}
	})
}

func normal(t *rapid.T, v any) (n any) {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestJSONReadsBackAsTheSameValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.String().Draw(t, "text")
		b, err := toJSON(want, "  ")
		if err != nil || visible(string(b)) != string(b) {
			t.Fatalf("%q, %v", b, err)
		}
		var got string
		if err := json.Unmarshal(b, &got); err != nil || got != want {
			t.Fatalf("%q became %q by way of %s, %v", want, got, b, err)
		}
	})
}

func TestShortDurations(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": -time.Second, "0.42s": 420 * time.Millisecond, "9.99s": 9990 * time.Millisecond,
		"12s": 12 * time.Second, "59s": 59400 * time.Millisecond,
		"1m": 59600 * time.Millisecond, "3m5s": 185 * time.Second,
		"1h": time.Hour - time.Millisecond, "2h40m": 160 * time.Minute,
		"1d": 24*time.Hour - time.Second, "3d4h": 76 * time.Hour,
	} {
		if got := short(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
