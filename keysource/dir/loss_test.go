package dir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/keysource/internal/testca"
	"github.com/lockstep-tls/lockstep/keysource/layout"
)

type fakeKnown struct {
	mu               sync.Mutex
	names            []keysource.Name
	loadErr, saveErr error
}

func (k *fakeKnown) Load(context.Context) ([]keysource.Name, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.names), k.loadErr
}

func (k *fakeKnown) Save(_ context.Context, names []keysource.Name) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.saveErr == nil {
		k.names = slices.Clone(names)
	}
	return k.saveErr
}

func (k *fakeKnown) set(load, save error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loadErr, k.saveErr = load, save
}

func (k *fakeKnown) saved() []keysource.Name {
	names, _ := k.Load(context.Background())
	return names
}

// populate makes n hosts with one certificate; nobody looks at which.
func populate(t *testing.T, root string, n int) (all []keysource.Name, v string) {
	t.Helper()
	all = names(n)
	var dns []string
	for _, n := range all {
		dns = append(dns, string(n))
	}
	chain, key := testca.New(t).Issue(t, dns...)
	for _, n := range all {
		v = putPEM(t, filepath.Join(root, string(n)), chain, key)
	}
	return all, v
}

func remove(t *testing.T, root string, names ...keysource.Name) {
	t.Helper()
	for _, n := range names {
		check(t, os.RemoveAll(filepath.Join(root, layout.Folder(n))))
	}
}

// settled waits until a change was seen twice.
func settled() {
	time.Sleep(5*time.Second + secondLook)
	synctest.Wait()
}

func TestLossThreshold(t *testing.T) {
	for _, c := range []struct {
		names, gone int
		held        bool
	}{
		{1, 1, false}, {2, 2, false}, {3, 2, false}, {3, 3, true}, {10, 2, false}, {10, 3, true},
		{30, 3, false}, {29, 3, true}, {100, 10, false}, {100, 11, true}, {100, 100, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			root := t.TempDir()
			all, v := populate(t, root, c.names)
			b := start(t, root, false)
			b.wants(all[0], v)
			synctest.Wait()
			b.news()
			gone := all[:c.gone]
			remove(t, root, gone...)
			settled()
			if !slices.Equal(b.news(), gone) {
				t.Errorf("%+v: not all were told of", c)
			}
			if !c.held {
				b.absent(gone...)
				if len(b.held()) > 0 || len(b.List()) != c.names-c.gone {
					t.Errorf("%+v: held %v", c, b.held())
				}
				return
			}
			if !slices.Equal(b.held(), gone) || len(b.List()) != c.names {
				t.Errorf("%+v: held %v", c, b.held())
			}
			b.wants(gone[0], v) // it was loaded
			b.fails(gone[1], "held back: "+string(gone[1])+" is gone from "+root+"; is the volume mounted? "+
				"`lockstep cert rm --confirm` accepts the loss")
			if e := b.entry(gone[1]); !e.Held || !strings.Contains(e.Problem, "held back") {
				t.Errorf("%+v: %+v", c, e)
			}
			b.absent("other.example") // the directory was read: that one is certain
		})
	}
}

func TestHeldNamesAreReleasedWhenTheyReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top := t.TempDir()
		root, away := filepath.Join(top, "certs"), filepath.Join(top, "away")
		check(t, os.Mkdir(root, 0o755))
		all, v := populate(t, root, 10)
		b := start(t, root, false)
		b.wants(all[0], v)
		synctest.Wait()
		// An unmounted volume leaves the empty mount point.
		check(t, os.Rename(root, away))
		check(t, os.Mkdir(root, 0o755))
		settled()
		if !slices.Equal(b.held(), all) {
			t.Fatalf("held %v", b.held())
		}
		b.wants(all[0], v)
		b.fails(all[1], "held back")
		b.news()
		check(t, os.Remove(root))
		check(t, os.Rename(away, root))
		settled()
		if got := b.news(); !slices.Equal(got, all) {
			t.Errorf("told %v", got)
		}
		for _, n := range all {
			b.wants(n, v)
			if e := b.entry(n); e.Held || e.Problem != "" {
				t.Errorf("%+v", e)
			}
		}
	})
}

func TestConfirmLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, known := t.TempDir(), &fakeKnown{}
		all, v := populate(t, root, 10)
		b := start(t, root, false, func(c *Config) { c.Known = known })
		b.wants(all[0], v)
		synctest.Wait()
		if got, err := b.ConfirmLoss(); err != nil || len(got) > 0 {
			t.Errorf("nothing is held, confirmed %v, %v", got, err)
		}
		remove(t, root, all[:5]...)
		settled()
		if !slices.Equal(known.saved(), all) {
			t.Errorf("held names were forgotten: %v", known.saved())
		}
		b.news()
		got, err := b.ConfirmLoss()
		if err != nil || !slices.Equal(got, all[:5]) {
			t.Errorf("confirmed %v, %v", got, err)
		}
		b.absent(all[:5]...)
		synctest.Wait()
		if !slices.Equal(b.news(), all[:5]) || !slices.Equal(known.saved(), all[5:]) || len(b.held()) > 0 {
			t.Errorf("saved %v, held %v", known.saved(), b.held())
		}
		settled()
		b.absent(all[:5]...)
		b.wants(all[5], v)
	})
}

func TestTricklingLossesAreRemovals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		all, _ := populate(t, root, 20)
		b := start(t, root, false)
		synctest.Wait()
		for _, n := range all {
			remove(t, root, n)
			time.Sleep(lossWindow)
			synctest.Wait()
			b.absent(n)
		}
		if len(b.held()) > 0 || len(b.List()) > 0 {
			t.Errorf("held %v", b.held())
		}
	})
}

func TestUnmountSeenHalfWayIsHeldAltogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, known := t.TempDir(), &fakeKnown{}
		all, v := populate(t, root, 40)
		b := start(t, root, false, func(c *Config) { c.Known = known })
		b.wants(all[0], v)
		synctest.Wait()
		remove(t, root, all[:2]...)
		settled()
		b.absent(all[:2]...) // two of forty are believed
		remove(t, root, all[2:]...)
		b.news()
		settled()
		if !slices.Equal(b.held(), all) || !slices.Equal(b.news(), all) || !slices.Equal(known.saved(), all) {
			t.Fatalf("held %v", b.held())
		}
		b.wants(all[0], v)
		b.fails(all[1], "held back")
	})
}

func TestLossesOfOneMinuteAreCountedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := t.TempDir()
		all, _ := populate(t, root, 40)
		b := start(t, root, false)
		synctest.Wait()
		remove(t, root, all[:4]...)
		settled()
		b.absent(all[:4]...)
		remove(t, root, all[4:7]...) // three of thirty-six alone would be believed
		settled()
		if !slices.Equal(b.held(), all[:7]) {
			t.Errorf("held %v", b.held())
		}
	})
}

func TestLossAcrossARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, known := t.TempDir(), &fakeKnown{}
		all, v := populate(t, root, 20)
		withKnown := func(c *Config) { c.Known = known }
		b := start(t, root, false, withKnown)
		synctest.Wait()
		b.stop()
		if !slices.Equal(known.saved(), all) {
			t.Fatalf("saved %v", known.saved())
		}

		remove(t, root, all[0], all[1])
		b = start(t, root, false, withKnown)
		b.absent(all[0], all[1]) // two of twenty: somebody removed them while we were away
		synctest.Wait()
		b.stop()

		remove(t, root, all[2], all[3], all[4])
		for range 2 { // and it is not forgotten by the next restart
			b = start(t, root, false, withKnown)
			b.fails(all[2], "held back")
			b.wants(all[5], v)
			if !slices.Equal(b.held(), all[2:5]) {
				t.Errorf("held %v", b.held())
			}
			synctest.Wait()
			b.stop()
		}
	})
}

func TestMissingDirectoryAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "certs")
		b := launch(t, root, false)
		err := <-b.done
		if err == nil || !strings.Contains(err.Error(), root) || !strings.Contains(err.Error(), "--certs") {
			t.Fatalf("a mistyped path: %v", err)
		}

		// fewer than lossCount, but the directory itself is gone
		known := &fakeKnown{names: []keysource.Name{"shop.example"}}
		withKnown := func(c *Config) { c.Known = known }
		b = start(t, root, false, withKnown)
		b.fails("shop.example", "held back")
		b.fails("other.example", "cannot be read")
		check(t, os.Mkdir(root, 0o755))
		v := put(t, b.ca, root, "shop.example")
		settled()
		b.wants("shop.example", v)
		b.absent("other.example")
		b.stop()

		check(t, os.RemoveAll(root))
		b = start(t, root, false, withKnown)
		b.fails("shop.example", "held back")
		got, err := b.ConfirmLoss()
		if err != nil || !slices.Equal(got, []keysource.Name{"shop.example"}) {
			t.Fatalf("%v, %v", got, err)
		}
		settled()
		b.absent("shop.example", "other.example")
		if len(known.saved()) > 0 {
			t.Errorf("saved %v", known.saved())
		}
	})
}

func TestUnreadableDirectoryIsNoLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		top, known := t.TempDir(), &fakeKnown{}
		root, away := filepath.Join(top, "certs"), filepath.Join(top, "away")
		check(t, os.Mkdir(root, 0o755))
		all, v := populate(t, root, 2)
		b := start(t, root, false, func(c *Config) { c.Known = known })
		b.wants(all[0], v)
		synctest.Wait()
		check(t, os.Rename(root, away))
		// reading it fails, with something else than "no such file"
		check(t, os.Symlink("certs", root))
		settled()
		b.wants(all[0], v)
		b.fails(all[1], "held back")
		b.fails("other.example", "too many levels")
		if _, err := b.ConfirmLoss(); err == nil || !strings.Contains(err.Error(), "cannot be confirmed") {
			t.Errorf("a loss that nobody can know was confirmed: %v", err)
		}
		check(t, os.Remove(root))
		check(t, os.Rename(away, root))
		settled()
		b.wants(all[1], v)
		b.absent("other.example")
		if !slices.Equal(known.saved(), all) {
			t.Errorf("saved %v", known.saved())
		}
	})
}

func TestKnownIsSavedUntilItSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, known := t.TempDir(), &fakeKnown{saveErr: errors.New("store is down")}
		all, _ := populate(t, root, 3)
		b := start(t, root, false, func(c *Config) { c.Known = known })
		settled()
		known.set(nil, nil)
		settled()
		if !slices.Equal(known.saved(), all) || !strings.Contains(b.logs.String(), "store is down") {
			t.Errorf("saved %v", known.saved())
		}
	})
}
