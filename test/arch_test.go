// Package test holds what concerns the checkout as a whole: its architecture, and below it the
// fleet harness, the traffic, the demo and the end-to-end tests.
package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lockstep-tls/lockstep/"

// rooms says what each room may import of the others, and why not more. A room that is not listed
// may import nothing and is found by the test.
var rooms = []struct {
	room  string
	may   []string
	since string
}{
	{"keysource", nil, "the page of nouns: everything imports it, so it imports nothing"},
	{"keysource/dir", []string{
		"keysource", "keysource/layout", "keysource/renewal", "store",
	}, "a source knows nouns and where it reads, not who asks"},
	{"keysource/layout", []string{"keysource"}, "it looks at names of files, and reads none"},
	{"keysource/catalog", []string{
		"internal/expiry", "keysource", "keysource/renewal", "store",
	}, "a source knows nouns and where it reads, not who asks"},
	{"keysource/renewal", []string{"keysource"}, "it judges two certificates, wherever they come from"},
	{"keysource/eager", []string{
		"keysource", "store",
	}, "which hosts are busy is decided without knowing what a listener is"},
	{"keysource/trial", []string{
		"keysource", "store",
	}, "who goes first is written down without knowing what a stream is, or how a certificate is sent"},
	{"store", nil, "values are bytes to it"},
	{"store/memory", []string{"store"}, "a driver knows its contract only"},
	{"store/bolt", []string{"internal/atomicfile", "store"}, "a driver knows its contract only"},
	{"store/jetstream", []string{"store"}, "a driver knows its contract only"},
	{"store/redis", []string{"store"}, "a driver knows its contract only"},
	{"store/guard", []string{"store"}, "a guard knows the state of the whole store, and no value but that state"},
	{"store/storetest", []string{"store"}, "the contract is checked without knowing a driver"},
	{"seal", []string{"internal/atomicfile"}, "it encrypts bytes for whoever stores them"},
	{"seal/custody", []string{
		"seal", "store",
	}, "it looks after the seal of any store, and knows nothing of what is sealed"},
	{"rotation", []string{
		"keysource",
	}, "the decision is pure: it reads and writes nothing, so a simulation can play it against any fleet"},
	{"rotation/fleet", []string{"keysource", "rotation", "store"},
		"it carries decisions out without knowing a stream: " +
			"acks come in as calls, rings go out as values, other replicas are an interface"},
	{"audit", []string{
		"internal/atomicfile",
	}, "it writes down what others tell it, in words: it must not know a key when it sees one"},
	{"audit/storesink", []string{"audit", "store"}, "it maps records to a store, and knows nothing of lines"},
	{"events", nil, "events carry names; whoever is woken re-reads the state elsewhere"},
	{"events/nats", []string{"events"}, "a driver knows its contract only"},
	{"events/journal", []string{"events"}, "it keeps lines by their time: what they mean is its caller's business"},
	{"xds", nil, "the protocol knows nothing of secrets"},
	{"xds/server", []string{"xds"}, "the protocol knows nothing of secrets"},
	{"xds/client", []string{"xds"}, "a client that imports its server drags it to the edge"},
	{"sds", []string{
		"internal/expiry", "keysource", "xds", "xds/server",
	}, "the one library room where secrets meet Envoy; it may not see the store"},
	{"sds/wire", []string{"keysource", "xds"}, "who receives secrets links nothing of who sends them"},
	{"edgeproxy", []string{
		"keysource", "edgeproxy/ticket",
	}, "a proxy knows where certificates come from as little as net/http does"},
	{"edgeproxy/ticket", []string{
		"keysource",
	}, "what a ticket is bound to is decided by what it is given, not by who asks"},
	{"edgeproxy/lastgood", []string{
		"internal/atomicfile", "keysource", "seal",
	}, "what is kept is kept without knowing where it came from"},
	{"edgeproxy/secrets", []string{
		"keysource", "sds/wire", "xds", "xds/client",
	}, "a client of the control plane shares no code with its server, and never sees a store"},
	{"lds", []string{
		"internal/watchfile", "keysource", "xds",
	}, "a listener is made of names: it never sees a certificate or a key"},
	{"identity", []string{"keysource"}, "who may have what is decided without knowing how it is sent"},
	{"identity/enforce", []string{
		"identity", "internal/atomicfile", "internal/watchfile", "keysource",
	}, "which policy counts is decided without a store or a stream: the audit log comes as an interface"},
	{"identity/transport", []string{
		"identity", "internal/expiry", "internal/watchfile",
	}, "who a peer is does not depend on what it may have, nor on what it is sent"},
	{"internal/aside", nil, "it runs a function, whatever that does"},
	{"internal/atomicfile", nil, "it knows files, and no noun of ours"},
	{"internal/expiry", nil, "it knows times, and not whose certificate it is"},
	{"internal/watchfile", nil, "it knows files, and not what stands in them"},
	{"probe", []string{"keysource"}, "it is a client like any other"},

	{"cmd/internal/access", []string{
		"identity", "store",
	}, "it knows who may come in, and nothing of what they come for"},
	{"cmd/internal/admin", []string{
		"audit", "cmd/internal/access", "cmd/internal/advice", "cmd/internal/api", "cmd/internal/archive",
		"cmd/internal/backup", "cmd/internal/expiring", "cmd/internal/presence", "cmd/internal/problems",
		"cmd/internal/recorder", "cmd/internal/replica", "cmd/internal/stores", "events", "events/journal", "identity",
		"internal/aside", "internal/expiry", "keysource", "keysource/catalog", "keysource/dir", "keysource/eager",
		"keysource/trial", "lds", "rotation", "rotation/fleet",
		"sds", "seal", "seal/custody", "store", "xds", "xds/server",
	}, "it shows rooms and passes commands on; it opens nothing, and knows no configuration and no listener's " +
		"credentials"},
	{"cmd/internal/advice", []string{
		"audit", "identity/enforce", "rotation", "store", "store/guard",
	}, "it adds to the errors of rooms what an operator types, and decides nothing"},
	{"cmd/internal/api", nil, "types and a client that others may use: they link nothing of the server"},
	{"cmd/internal/archive", []string{
		"keysource", "keysource/layout",
	}, "an archive is read alike by the program and by the daemon, wherever its certificates go"},
	{"cmd/internal/backup", []string{
		"cmd/internal/api", "keysource", "keysource/catalog", "rotation", "store",
	}, "records go out as they are; what may come in, the room says that owns it"},
	{"cmd/internal/bootstrap", []string{
		"cmd/internal/place", "keysource",
	}, "a bootstrap is text for Envoy, made without asking anybody"},
	{"cmd/internal/bus", []string{
		"cmd/internal/advice", "cmd/internal/natsd", "events", "events/nats", "keysource", "rotation", "rotation/fleet",
	}, "it carries wake-ups: what they mean is decided by who handles them"},
	{"cmd/internal/certlog", []string{
		"audit", "cmd/internal/api", "cmd/internal/problems", "cmd/internal/recorder", "events",
		"internal/atomicfile", "keysource", "keysource/dir", "keysource/renewal",
	}, "it tells what a directory's certificates become: it reads no file of them, and serves nothing"},
	{"cmd/internal/check", nil, "it says what was found: what is looked at is its users' business"},
	{"cmd/internal/check/plane", []string{
		"audit", "cmd/internal/check", "cmd/internal/config", "cmd/internal/datadir", "cmd/internal/listeners",
		"cmd/internal/natsd", "cmd/internal/settings", "cmd/internal/strictyaml", "identity/enforce",
		"identity/transport", "keysource/dir", "keysource/eager", "lds",
	}, "it looks at what a start opens: it can start nothing, and change nothing"},
	{"cmd/internal/config", []string{
		"audit", "cmd/internal/logs", "cmd/internal/place", "cmd/internal/settings", "cmd/internal/strictyaml",
		"keysource", "keysource/eager", "rotation",
	}, "it checks what was written, and opens nothing"},
	{"cmd/internal/daemon", []string{
		"audit", "audit/storesink", "cmd/internal/access", "cmd/internal/admin", "cmd/internal/advice",
		"cmd/internal/api", "cmd/internal/bus", "cmd/internal/certlog", "cmd/internal/config",
		"cmd/internal/datadir", "cmd/internal/denied", "cmd/internal/describe", "cmd/internal/failpoint",
		"cmd/internal/listeners",
		"cmd/internal/live",
		"cmd/internal/loss",
		"cmd/internal/metrics", "cmd/internal/observer", "cmd/internal/presence", "cmd/internal/problems",
		"cmd/internal/recorder", "cmd/internal/reload", "cmd/internal/replica", "cmd/internal/rest",
		"cmd/internal/version", "events", "events/journal",
		"identity", "identity/enforce", "identity/transport",
		"keysource", "keysource/catalog", "keysource/dir", "keysource/eager", "keysource/trial",
		"lds", "probe", "rotation", "rotation/fleet", "sds", "seal/custody", "store", "store/guard",
		"xds", "xds/server",
	}, "it wires the rooms of lockstepd; what belongs to the edge, to a driver or to the CLI is not its own"},
	{"cmd/internal/datadir", []string{
		"cmd/internal/check", "cmd/internal/kek", "cmd/internal/settings", "cmd/internal/stores",
		"internal/atomicfile", "keysource", "seal", "store",
	}, "it knows files and the store that was opened, and nothing of who uses them"},
	{"cmd/internal/denied", []string{
		"cmd/internal/api", "cmd/internal/problems", "cmd/internal/recorder", "events", "identity", "identity/enforce",
		"keysource", "sds", "xds/server",
	}, "it puts what a policy denied into words: it decides nothing about it"},
	{"cmd/internal/describe", nil, "it describes services, whosever"},
	{"cmd/internal/edge", []string{
		"cmd/internal/check", "cmd/internal/kek", "cmd/internal/logs", "cmd/internal/place", "cmd/internal/reload",
		"cmd/internal/settings", "cmd/internal/strictyaml", "cmd/internal/version", "edgeproxy",
		"edgeproxy/lastgood", "edgeproxy/secrets", "internal/expiry", "keysource", "seal", "xds",
	}, "the internet is at its door: no store, and nothing of the control plane"},
	{"cmd/internal/expiring", []string{
		"cmd/internal/api", "cmd/internal/problems", "internal/expiry", "keysource", "keysource/catalog",
		"keysource/dir",
	}, "it joins what the sources know of ends, and reads nothing itself"},
	{"cmd/internal/failpoint", []string{
		"rotation", "store",
	}, "it ends the process at a point, and does nothing in the builds that are shipped"},
	{"cmd/internal/kek", []string{
		"seal",
	}, "it adds to the errors of a source what an operator types, and decides nothing"},
	{"cmd/internal/listeners", []string{
		"cmd/internal/admin", "cmd/internal/api", "cmd/internal/problems", "events", "internal/atomicfile",
		"keysource", "keysource/eager", "lds", "xds",
	}, "a listener is made of names: it never sees a certificate, a key or a store"},
	{"cmd/internal/live", []string{
		"cmd/internal/api", "cmd/internal/config", "cmd/internal/listeners", "cmd/internal/logs",
		"cmd/internal/problems", "cmd/internal/reload", "rotation/fleet", "xds/server",
	}, "it changes settings of parts that run: it opens nothing"},
	{"cmd/internal/logs", nil, "it writes what it is given, and knows no secret and no error of ours"},
	{"cmd/internal/loss", []string{
		"cmd/internal/api", "cmd/internal/problems", "keysource", "keysource/catalog", "sds", "store/guard",
	}, "it puts back what is being sent: a store's keys and drivers are the guard's"},
	{"cmd/internal/metrics", []string{
		"audit", "cmd/internal/admin", "cmd/internal/api", "cmd/internal/bus", "cmd/internal/expiring",
		"cmd/internal/problems", "cmd/internal/version", "identity/enforce", "identity/transport",
		"internal/expiry", "keysource", "keysource/catalog", "keysource/dir", "rotation",
		"rotation/fleet", "sds", "seal/custody", "xds", "xds/server",
	}, "it reads, and changes nothing: it gets no store"},
	{"cmd/internal/natsd", nil, "a NATS server, whatever is sent over it"},
	{"cmd/internal/pki", []string{
		"identity", "internal/atomicfile", "internal/expiry", "keysource",
	}, "it issues certificates by the rules that the control plane checks them by, and talks to nobody"},
	{"cmd/internal/observer", []string{
		"cmd/internal/listeners", "cmd/internal/presence", "keysource", "lds", "rotation/fleet", "sds", "xds",
	}, "it passes on what happens on streams: it sends nothing, and knows no store"},
	{"cmd/internal/presence", []string{
		"cmd/internal/api", "cmd/internal/problems", "cmd/internal/recorder", "events", "keysource", "lds",
		"rotation/fleet", "store", "xds",
	}, "it knows which nodes are here and which were, and nothing of what they may have"},
	{"cmd/internal/recorder", []string{
		"cmd/internal/api", "cmd/internal/problems", "events", "internal/aside", "internal/atomicfile",
	}, "it passes on what others say has happened: it knows no room that says it"},
	{"cmd/internal/replica", []string{
		"cmd/internal/api", "cmd/internal/problems", "rotation/fleet", "store",
	}, "it knows which replicas there are: whom to ask, and how, comes as a function"},
	{"cmd/internal/rest", nil, "it knows the process's memory, and nothing of ours"},
	{"cmd/internal/place", nil, "it knows paths, and not what lies there"},
	{"cmd/internal/problems", []string{
		"cmd/internal/advice", "cmd/internal/api", "identity/enforce", "identity/transport", "internal/atomicfile",
		"rotation/fleet", "store",
	}, "it is a register: who sees a problem names its code"},
	{"cmd/internal/process", nil, "it concerns any process, whatever that does"},
	{"cmd/internal/reload", []string{"cmd/internal/settings", "internal/aside"},
		"it compares settings and calls what puts them in force, in any program"},
	{"cmd/internal/settings", []string{
		"cmd/internal/strictyaml",
	}, "it reads a configuration, and knows none of its keys"},
	{"cmd/internal/stores", []string{
		"cmd/internal/settings", "seal", "seal/custody", "store", "store/bolt", "store/guard", "store/jetstream",
		"store/redis",
	}, "the one place that knows every driver; what is stored is none of its business"},
	{"cmd/internal/strictyaml", nil, "it decodes YAML, whosever"},
	{"cmd/internal/version", nil, "it reads the build of the program that it is in"},
}

// testOnly rooms may be imported by tests only.
var testOnly = []string{
	"cmd/internal/check/checktest", "identity/identitytest", "internal/testkit", "keysource/internal/testca",
	"store/storetest",
}

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
				if imp == only && pkg != "test" && !isTesting(pkg) {
					t.Errorf("%s imports %s outside its tests", pkg, imp)
				}
			}
		}
		// it may import anything
		program := strings.HasPrefix(pkg, "cmd/") && !strings.HasPrefix(pkg, "cmd/internal/")
		if program || pkg == "test" || strings.HasPrefix(pkg, "test/") ||
			strings.HasPrefix(pkg, "deploy/") || isTesting(pkg) {
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

// maxWiring bounds the lines of package daemon without its tests.
const maxWiring = 1200

// What connects the rooms decides nothing, so it stays short. A decision that grows there belongs
// into a room.
func TestWhatConnectsTheRoomsStaysShort(t *testing.T) {
	files, err := filepath.Glob("../cmd/internal/daemon/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	lines := 0
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(b, []byte("\n"))
	}
	if lines >= maxWiring {
		t.Errorf("cmd/internal/daemon has %d lines, want fewer than %d: move decisions into rooms", lines, maxWiring)
	}
}

// The folders at the top are fixed: a new one is a new noun.
func TestTheTopLevelIsTheListOfNouns(t *testing.T) {
	out, err := exec.Command("git", "-C", "..", "ls-files").Output()
	if err != nil {
		t.Skip("not a git checkout")
	}
	nouns := strings.Fields("keysource store seal rotation audit events identity xds sds lds edgeproxy probe " +
		"internal cmd deploy docs test .ci")
	for _, f := range strings.Split(string(out), "\n") {
		top, _, nested := strings.Cut(f, "/")
		if nested && !slices.Contains(nouns, top) {
			t.Fatalf("%s: %q is no folder of the architecture (ARCHITECTURE.md)", f, top)
		}
	}
}

// packages maps each package of the module to those of the module that it imports, without its
// tests.
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
