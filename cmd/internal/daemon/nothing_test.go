package daemon

import (
	"errors"
	"fmt"
	"testing"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/cmd/internal/config"
)

// An action that finds nothing to change says so: by its answer, or since what it is about is not
// there. The audit log, which tells what was changed, gets no line.
func TestWhatChangesNothingSaysSoAndIsNotWrittenDown(t *testing.T) {
	certs := t.TempDir()
	r, s := start(t, func(c *config.Config) {
		c.Certs, c.Listeners.Template = certs, "../../../deploy/envoy/listener.yaml"
	}), newShop(t)
	ring(t, r, "edge-1")
	p := s.pair("shop.example", 0, "shop.example")
	put := func() (api.Cert, error) {
		return r.client.PutCert(t.Context(), "shop.example", api.PutCert{Chain: p.Chain, Key: p.Key})
	}
	if c, err := put(); err != nil || c.Same {
		t.Fatalf("%+v %v", c, err)
	}
	if _, err := r.client.PinHost(t.Context(), "shop.example"); err != nil {
		t.Fatal(err)
	}
	head := func() string {
		t.Helper()
		log, err := r.client.Audit(t.Context(), 1)
		if err != nil || len(log.Lines) != 1 {
			t.Fatalf("%+v %v", log, err)
		}
		return log.Lines[0].What + " " + fmt.Sprint(log.Lines[0].Number)
	}
	absent := func(err error) (bool, error) {
		var answer *api.Error
		if errors.As(err, &answer) && answer.Code == api.NotFound {
			return true, nil
		}
		return false, err
	}
	before := head()
	for what, act := range map[string]func() (said bool, err error){
		"thaw":         func() (bool, error) { a, err := r.client.Thaw(t.Context()); return a.Nothing, err },
		"confirm-loss": func() (bool, error) { a, err := r.client.ConfirmLoss(t.Context()); return a.Nothing, err },
		"kek retire":   func() (bool, error) { a, err := r.client.RetireKEK(t.Context()); return a.Nothing, err },
		"cert put":     func() (bool, error) { a, err := put(); return a.Same, err },
		"cert rm":      func() (bool, error) { return absent(r.client.RemoveCert(t.Context(), "none.example")) },
		"import": func() (bool, error) {
			a, err := r.client.ImportCerts(t.Context(), tarOf(t, p))
			return a.Same == 1 && a.Stored == 1, err
		},
		"pin": func() (bool, error) {
			a, err := r.client.PinHost(t.Context(), "shop.example")
			return a.Note == "it was pinned before: nothing was changed", err
		},
		"unpin": func() (bool, error) {
			_, err := r.client.UnpinHost(t.Context(), "none.example")
			return absent(err)
		},
		"exclude": func() (bool, error) {
			return absent(r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "nobody", Seconds: 60}))
		},
		"include": func() (bool, error) {
			return absent(r.client.Exclude(t.Context(), "default", api.ExcludeRequest{Node: "edge-1"}))
		},
		"burn elsewhere": func() (bool, error) {
			_, err := r.client.Burn(t.Context(), "nosuch", api.RotateRequest{})
			return absent(err)
		},
	} {
		if said, err := act(); err != nil || !said {
			t.Errorf("%s does not say that nothing was changed: %v", what, err)
		}
		if now := head(); now != before {
			t.Errorf("%s: the audit log got the line %s", what, now)
			before = now
		}
	}
}
