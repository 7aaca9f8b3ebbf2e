package test

import (
	"os/exec"
	"strings"
	"testing"
)

// The program that faces the internet links nothing that reads a key store, nor anything of the
// control plane's own.
func TestTheEdgeLinksNoStore(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "./cmd/lockstep-edge")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := strings.Fields(string(out))
	for _, pkg := range linked {
		room, ours := strings.CutPrefix(pkg, module)
		if !ours {
			continue
		}
		for _, not := range []string{"store", "rotation", "audit", "events", "identity", "xds/server",
			"keysource/", "lds", "cmd/internal/daemon"} {
			if room == strings.TrimSuffix(not, "/") && !strings.HasSuffix(not, "/") ||
				strings.HasPrefix(room, strings.TrimSuffix(not, "/")+"/") {
				t.Errorf("lockstep-edge links %s", room)
			}
		}
	}
	if len(linked) < 100 {
		t.Fatalf("only %d packages were found", len(linked))
	}
}

// crypto/tls does not call VerifyPeerCertificate for a session that is resumed: whoever decides
// there is passed by.
func TestTheEdgeVerifiesConnectionsNotCertificates(t *testing.T) {
	out, err := exec.Command("grep", "-rn", "--include=*.go", "VerifyPeerCertificate *[:=]", "../edgeproxy",
		"../cmd/internal/edge", "../cmd/lockstep-edge").Output()
	if err == nil {
		t.Errorf("use VerifyConnection:\n%s", out)
	}
	if out, err = exec.Command("grep", "-rn", "--include=*.go", "VerifyConnection:",
		"../edgeproxy").Output(); err != nil || len(out) == 0 {
		t.Errorf("no VerifyConnection: %v", err)
	}
}
