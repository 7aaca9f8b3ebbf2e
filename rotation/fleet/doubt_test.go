package fleet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/rotation"
)

// The ring is put back to yesterday's, and no replica remembers: yesterday's keys go on, one of
// which was burnt meanwhile. It is said for as long as they do.
func TestWhatNodesProveIsSaidUntilYesterdaysKeysAreGone(t *testing.T) {
	for name, settle := range map[string]func(t *testing.T, p *plane){
		"burnt": func(t *testing.T, p *plane) {
			if _, err := p.Burn(t.Context(), "default", "me", "one was burnt"); err != nil {
				t.Fatal(err)
			}
		},
		"retired": func(t *testing.T, p *plane) {
			p.rotate()
			time.Sleep(10 * time.Second)
			if keys := p.status().Doubted; len(keys) != 1 { // it drains
				t.Errorf("after the rotation: %q", keys)
			}
			time.Sleep(testPolicy().TicketLifetime * 5 / 4)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newFaulty()
				p := start(t, s, "r1", remembers(&sentMost{}))
				yesterday, _ := s.rollout(t)
				if _, err := p.Burn(t.Context(), "default", "me", ""); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				held := p.status().Version
				if proven, keys := p.status().Proven, p.status().Doubted; proven != 0 || keys != nil {
					t.Fatalf("from the start g%d %q", proven, keys)
				}
				p.stop()
				s.overwrite(t, yesterday)

				p = start(t, s, "r1", remembers(&sentMost{}))
				p.connect("a", held)
				p.phase(time.Second, rotation.Steady, 3)
				back := yesterday.Keys[0].Key.ID()
				p.stop()
				p = start(t, s, "r1", remembers(&sentMost{})) // it is not forgotten
				if proven, keys := p.status().Proven,
					p.status().Doubted; proven != 2 || len(keys) != 1 || keys[0] != back {
					t.Fatalf("g%d %q, want g2 %s", proven, keys, back)
				}
				p.connect("a", p.status().Version)
				settle(t, p)
				time.Sleep(time.Second)
				synctest.Wait()
				if proven, keys := p.status().Proven, p.status().Doubted; proven != 0 || keys != nil {
					t.Errorf("in the end g%d %q", proven, keys)
				}
			})
		})
	}
}
