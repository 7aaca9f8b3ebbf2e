// Package test holds what concerns the checkout as a whole: its architecture, and below it the fleet harness, the traffic, the
// demo and the end-to-end tests.
package test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lockstep-tls/lockstep/"

// rooms says what each room may import of the others, and why not more. A room that is not listed may import nothing and is found by the test.
var rooms = []struct {
	room  string
	may   []string
	since string
}{
	{"keysource", nil, "the page of nouns: everything imports it, so it imports nothing"},
	{"keysource/dir", []string{"keysource", "store"}, "a source knows nouns and where it reads, not who asks"},
	{"keysource/catalog", []string{"keysource", "store"}, "a source knows nouns and where it reads, not who asks"},
	{"keysource/eager", []string{"keysource", "store"}, "which hosts are busy is decided without knowing what a listener is"},
	{"keysource/trial", []string{"keysource", "store"}, "who goes first is written down without knowing what a stream is, or how a certificate is sent"},
	{"store", nil, "values are bytes to it"},
	{"store/memory", []string{"store"}, "a driver knows its contract only"},
	{"store/bolt", []string{"internal/atomicfile", "store"}, "a driver knows its contract only"},
	{"store/jetstream", []string{"store"}, "a driver knows its contract only"},
	{"store/redis", []string{"store"}, "a driver knows its contract only"},
	{"store/storetest", []string{"store"}, "the contract is checked without knowing a driver"},
	{"seal", []string{"internal/atomicfile"}, "it encrypts bytes for whoever stores them"},
	{"seal/custody", []string{"seal", "store"}, "it looks after the seal of any store, and knows nothing of what is sealed"},
	{"rotation", []string{"keysource"}, "the decision is pure: it reads and writes nothing, so a simulation can play it against any fleet"},
	{"rotation/fleet", []string{"keysource", "rotation", "store"},
		"it carries decisions out without knowing a stream: acks come in as calls, rings go out as values, other replicas are an interface"},
	{"audit", []string{"internal/atomicfile", "store"}, "it writes down what others tell it, in words: it must not know a key when it sees one"},
	{"events", nil, "events carry names; whoever is woken re-reads the state elsewhere"},
	{"events/nats", []string{"events"}, "a driver knows its contract only"},
	{"xds", nil, "the protocol knows nothing of secrets"},
	{"xds/server", []string{"xds"}, "the protocol knows nothing of secrets"},
	{"xds/client", []string{"xds"}, "a client that imports its server drags it to the edge"},
	{"sds", []string{"keysource", "xds", "xds/server"}, "the one library room where secrets meet Envoy; it may not see the store"},
	{"sds/wire", []string{"keysource", "xds"}, "who receives secrets links nothing of who sends them"},
	{"edgeproxy", []string{"keysource", "edgeproxy/ticket"}, "a proxy knows where certificates come from as little as net/http does"},
	{"edgeproxy/ticket", []string{"keysource"}, "what a ticket is bound to is decided by what it is given, not by who asks"},
	{"edgeproxy/lastgood", []string{"internal/atomicfile", "keysource", "seal"}, "what is kept is kept without knowing where it came from"},
	{"edgeproxy/secrets", []string{"keysource", "sds/wire", "xds", "xds/client"}, "a client of the control plane shares no code with its server, and never sees a store"},
	{"lds", []string{"keysource", "xds"}, "a listener is made of names: it never sees a certificate or a key"},
	{"identity", []string{"keysource"}, "who may have what is decided without knowing how it is sent"},
	{"internal/atomicfile", nil, "it knows files, and no noun of ours"},
	{"probe", []string{"keysource"}, "it is a client like any other"},
}

// testOnly rooms may be imported by tests only.
var testOnly = []string{"keysource/internal/testca", "store/storetest"}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	seen := map[string]bool{}
	for pkg, imports := range packages(t) {
		for _, imp := range imports {
			if strings.HasPrefix(imp, "cmd/") && !strings.HasPrefix(pkg, "cmd/") {
				t.Errorf("%s imports %s: nothing imports a program", pkg, imp)
			}
			if strings.HasPrefix(imp, "test/") && !strings.HasPrefix(pkg, "test") {
				t.Errorf("%s imports %s: nothing but tests imports test", pkg, imp)
			}
			for _, only := range testOnly {
				if imp == only && pkg != "test" {
					t.Errorf("%s imports %s outside its tests", pkg, imp)
				}
			}
		}
		if strings.HasPrefix(pkg, "cmd/") || pkg == "test" || strings.HasPrefix(pkg, "test/") || strings.HasPrefix(pkg, "deploy/") || isTesting(pkg) {
			continue
		}
		known := false
		for _, r := range rooms {
			if r.room != pkg {
				continue
			}
			known, seen[pkg] = true, true
			for _, imp := range imports {
				if !slices.Contains(r.may, imp) {
					t.Errorf("%s imports %s: %s", pkg, imp, r.since)
				}
			}
		}
		if !known {
			t.Errorf("%s is a room that the table does not know: say in test/arch_test.go what it may import", pkg)
		}
	}
	for _, r := range rooms {
		if !seen[r.room] && !isTesting(r.room) {
			t.Errorf("the table has a room %s that does not exist", r.room)
		}
	}
}

// The folders at the top are fixed: a new one is a new noun.
func TestTheTopLevelIsTheListOfNouns(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "ls-files").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	nouns := strings.Fields("keysource store seal rotation audit events identity xds sds lds edgeproxy probe internal cmd deploy docs test .ci")
	for _, f := range strings.Split(string(out), "\n") {
		top, _, nested := strings.Cut(f, "/")
		if nested && !slices.Contains(nouns, top) {
			t.Fatalf("%s: %q is no folder of the architecture (ARCHITECTURE.md)", f, top)
		}
	}
}

// packages maps each package of the module to those of the module that it imports, without its tests.
func packages(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	pkgs := map[string][]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		words := strings.Fields(line)
		pkg := strings.TrimPrefix(words[0], module)
		pkgs[pkg] = nil
		for _, imp := range words[1:] {
			if in, ok := strings.CutPrefix(imp, module); ok {
				pkgs[pkg] = append(pkgs[pkg], in)
			}
		}
	}
	if len(pkgs) < 10 {
		t.Fatalf("only %d packages were found", len(pkgs))
	}
	return pkgs
}

func isTesting(pkg string) bool { return slices.Contains(testOnly, pkg) }
