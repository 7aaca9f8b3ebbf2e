package advice

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/audit"
	"github.com/lockstep-tls/lockstep/store"
)

func TestAnErrorSaysOnceWhatToType(t *testing.T) {
	frozen := fmt.Errorf("cert/a was not written: %w", store.ErrFrozen)
	for want, err := range map[string]error{
		"cert/a was not written: the store is frozen (lockstep store thaw ends it)": frozen,
		"not stored: no room": errors.New("not stored: no room"),
	} {
		got := Add(err)
		if got.Error() != want || !errors.Is(got, err) {
			t.Errorf("%q, want %q", got, want)
		}
		if again := Add(fmt.Errorf("a.example: %w", got)); again.Error() != "a.example: "+want {
			t.Errorf("again: %q", again)
		}
	}
	if Add(nil) != nil {
		t.Error("no error is one")
	}
	if got := For(frozen); got != "lockstep store thaw ends it" || For(nil) != "" || For(errors.New("other")) != "" {
		t.Errorf("%q", got)
	}
}

// Where both are wrapped the break counts, since the thaw does not end it.
func TestABrokenLogComesBeforeAFrozenStore(t *testing.T) {
	err := Add(errors.Join(store.ErrFrozen, audit.ErrBroken))
	for _, cmd := range []string{"lockstep audit verify", "lockstep restore", "lockstep audit mend"} {
		if !strings.Contains(err.Error(), cmd) {
			t.Errorf("%v: want %q in it", err, cmd)
		}
	}
	if strings.Contains(err.Error(), thaw) {
		t.Error(err)
	}
}

func TestTheErrorsInALogSayWhatToType(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{ReplaceAttr: Log}))
	log.With("n", 1).WithGroup("g").Error("not written", "err", store.ErrFrozen,
		"why", errors.New("other"), "none", nil)
	for _, want := range []string{
		`"msg":"not written"`, `"n":1`,
		`"err":"the store is frozen (lockstep store thaw ends it)"`, `"why":"other"`, `"none":null`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, out.String())
		}
	}
}
