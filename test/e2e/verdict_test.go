package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// TestABadChainGetsOneVerdict: the plan of a renewal, cert put, cert import and the directory
// refuse the same chains in the same words, and take the same.
func TestABadChainGetsOneVerdict(t *testing.T) {
	t.Parallel()
	s := newStage(t, setup{})
	host := s.hosts[0]
	good := s.issue(host)
	issue := func(l fleet.Leaf) fleet.Pair {
		p, err := s.ca.Issue(l)
		s.ok(err)
		return p
	}
	stranger, err := fleet.NewCA("Another CA")
	s.ok(err)
	names := []string{host}
	imports := s.path("imports")
	for _, c := range []struct {
		name, words string // words are in the verdict; "": it is taken
		pair        fleet.Pair
	}{
		{"a good one", "", good},
		{"a good one with its issuer", "", fleet.Pair{Chain: append(bytes.Clone(good.Chain), s.ca.PEM()...), Key: good.Key}},
		{"RSA", "", issue(fleet.Leaf{Names: names, RSA: true})},
		{"expired", "expired", issue(fleet.Leaf{Names: names, Valid: -time.Hour})},
		{"for another name", "it is for [\"other.example\"], not for " + host, s.issue("other.example")},
		{"of another issuer than stands behind it", "certificate 0 of the chain is not signed by the next",
			fleet.Pair{Chain: append(bytes.Clone(good.Chain), stranger.PEM()...), Key: good.Key}},
		{"half of it", "chain: the PEM is broken or cut short",
			fleet.Pair{Chain: good.Chain[:len(good.Chain)/2], Key: good.Key}},
		{"nothing", "chain: no CERTIFICATE block in the PEM", fleet.Pair{Chain: []byte("\n"), Key: good.Key}},
		{"a key instead", "chain: no CERTIFICATE block in the PEM", fleet.Pair{Chain: good.Key, Key: good.Key}},
		{"must-staple", "must-staple: ", issue(fleet.Leaf{Names: names, MustStaple: true})},
		{"no name", "no-name: ", issue(fleet.Leaf{Organization: "nobody"})},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := s.in(t)
			crt, key := s.file("bad.crt", c.pair.Chain), s.file("bad.key", c.pair.Key)
			s.ok(os.RemoveAll(imports))
			s.ok(fleet.WriteHost(imports, host, c.pair))
			s.ok(fleet.WriteHost(s.certs, host, c.pair))
			const refused = "bad certificate: "
			verdict := func(r said, code int) string {
				_, words, is := strings.Cut(strings.TrimSpace(r.err), refused)
				if words, _, _ = strings.Cut(words, "\n"); is && r.code != code || !is && r.code != 0 {
					t.Errorf("exit code %d: %s", r.code, r.err)
				}
				return words
			}
			plan := verdict(s.lockstep("plan", "--cert", host, "--chain", crt), 5)
			put := verdict(s.lockstep("cert", "put", host, "--cert", crt, "--key", key), 5)
			imported := verdict(s.lockstep("cert", "import", imports), 1)
			var found string
			s.eventually(func() error {
				var l struct {
					Certs []struct{ Source, Problem string }
				}
				s.ok(s.show(&l, "cert", "list", host))
				_, found, _ = strings.Cut(l.Certs[0].Problem, refused)
				if found != put {
					return fmt.Errorf("the directory says %q, cert put %q", found, put)
				}
				return nil
			})
			if plan != put || imported != put || (put == "") != (c.words == "") || !strings.Contains(put, c.words) {
				t.Errorf("plan says %q\ncert put %q\ncert import %q\nthe directory %q\nwant %q", plan, put, imported,
					found, c.words)
			}
		})
	}
}
