package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// testKey returns a good key that is another for each n.
func testKey(n int) (k keysource.TicketKey) {
	for i := range k {
		k[i] = byte((i + 1) * (i + 7*n + 3) * 31 >> 1)
	}
	copy(k[:], fmt.Sprintf("%012d", n))
	return k
}

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func encoded(t testing.TB, r rotation.Rollout) []byte {
	t.Helper()
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// edited encodes r with one field of the record set to another value.
func edited(t testing.TB, r rotation.Rollout, field string, value any) []byte {
	t.Helper()
	var rec map[string]any
	dec := json.NewDecoder(bytes.NewReader(encoded(t, r)))
	dec.UseNumber()
	if err := dec.Decode(&rec); err != nil {
		t.Fatal(err)
	}
	rec[field] = value
	b, err := json.Marshal(rec)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// isBurnt reports whether r knows a key as burnt.
func isBurnt(r rotation.Rollout, k keysource.TicketKey) bool {
	return slices.Contains(r.Burnt, k.Fingerprint())
}
