package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func loaded(t *testing.T, dir string) tls.Certificate {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CertFile), filepath.Join(dir, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func TestARenewedCertificateIsTheSameForLonger(t *testing.T) {
	c, dir := initCA(t)
	folder := ServerDir(dir)
	r := Request{Server: true, Names: []string{"lockstep.internal"}, IPs: []string{"127.0.0.1"}, TTL: time.Hour}
	if _, err := c.Issue(folder, r, false); err != nil {
		t.Fatal(err)
	}
	old := loaded(t, folder)
	for _, how := range []Renewal{{}, {TTL: year}, {NewKey: true}} {
		out, err := c.Renew(folder, how)
		if err != nil {
			t.Fatal(err)
		}
		is := loaded(t, folder)
		want := time.Hour
		if how.TTL != 0 {
			want = how.TTL
		} else if how.NewKey {
			want = year // as long as last time
		}
		if left := time.Until(is.Leaf.NotAfter); left > want || left < want-time.Minute ||
			!out.NotAfter.Equal(is.Leaf.NotAfter) {
			t.Errorf("%+v: %s are left, want %s; said %s", how, left, want, out.NotAfter)
		}
		same := samePublicKey(old.Leaf, is.Leaf)
		if is.Leaf.SerialNumber.Cmp(old.Leaf.SerialNumber) == 0 || same == how.NewKey {
			t.Errorf("%+v: the same serial number, or another key than asked for", how)
		}
		if !slices.Equal(is.Leaf.DNSNames, old.Leaf.DNSNames) ||
			!is.Leaf.IPAddresses[0].Equal(old.Leaf.IPAddresses[0]) ||
			!slices.Equal(is.Leaf.ExtKeyUsage, old.Leaf.ExtKeyUsage) || is.Leaf.CheckSignatureFrom(c.cert) != nil {
			t.Errorf("%+v: %v", how, is.Leaf)
		}
		if fi, err := os.Stat(filepath.Join(folder, KeyFile)); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", fi, err)
		}
	}
	node := filepath.Join(dir, "nodes", "edge-1")
	c.mustIssue(t, node, Request{Node: "edge-1", SPIFFE: "spiffe://fleet.example/edge/1"})
	if out, err := c.Renew(node, Renewal{}); err != nil || out.Identity != "spiffe://fleet.example/edge/1" ||
		loaded(t, node).Leaf.Subject.CommonName != "edge-1" {
		t.Errorf("%+v %v", out, err)
	}
}

func samePublicKey(a, b *x509.Certificate) bool {
	return bytes.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
}

func TestWhatCannotBeRenewedStaysAsItIs(t *testing.T) {
	c, dir := initCA(t)
	other, _ := initCA(t)
	folder := ServerDir(dir)
	other.mustIssue(t, folder, Request{Server: true, Names: []string{"a.example"}})
	before := loaded(t, folder)
	if _, err := c.Renew(folder, Renewal{}); !errors.Is(err, ErrBadRequest) ||
		!strings.Contains(err.Error(), "not issued by this CA") {
		t.Errorf("%v", err)
	}
	if _, err := other.Renew(folder, Renewal{TTL: 20 * year}); !errors.Is(err, ErrBadRequest) ||
		!strings.Contains(err.Error(), "outlive its CA") {
		t.Errorf("%v", err)
	}
	if is := loaded(t, folder); !is.Leaf.Equal(before.Leaf) {
		t.Error("it was replaced")
	}
	key, err := os.ReadFile(filepath.Join(dir, caKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, KeyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Renew(folder, Renewal{}); !errors.Is(err, ErrBadRequest) ||
		!strings.Contains(err.Error(), "--new-key") {
		t.Errorf("a key of another certificate: %v", err)
	}
	if _, err := c.Renew(filepath.Join(dir, "nodes", "nobody"), Renewal{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func TestTheListSaysWhatIsNearItsEnd(t *testing.T) {
	c, dir := initCA(t)
	c.mustIssue(t, ServerDir(dir), Request{Server: true, IPs: []string{"10.0.0.5"}})
	for _, node := range []string{"edge-1", "edge-2"} {
		c.mustIssue(t, filepath.Join(dir, "nodes", node), Request{Node: node})
	}
	if err := os.WriteFile(filepath.Join(dir, "nodes", "edge-2", CertFile), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	for days, want := range map[int]string{0: "good", 340: "near its end", 363: "urgent", 366: "expired"} {
		all, err := List(dir, time.Now().Add(time.Duration(days)*24*time.Hour))
		if err != nil || len(all) != 4 {
			t.Fatalf("%v %v", all, err)
		}
		ca, server, one, two := all[0], all[1], all[2], all[3]
		if ca.Role != RoleCA || ca.State != "good" || ca.Identity != "Test CA" {
			t.Errorf("%+v", ca)
		}
		if server.Role != RoleServer || server.Name != "server" || server.Identity != "10.0.0.5" ||
			server.State != want || server.Due() != (want != "good") {
			t.Errorf("after %d days: %+v, want %s", days, server, want)
		}
		if left := 364 - days; one.Name != "edge-1" || one.DaysLeft != left && one.DaysLeft != left+1 {
			t.Errorf("after %d days: %+v", days, one)
		}
		if two.State != "unreadable" || two.Problem == "" || two.Due() {
			t.Errorf("%+v", two)
		}
	}
	if _, err := List(t.TempDir(), time.Now()); err == nil || !strings.Contains(err.Error(), "lockstep pki init") {
		t.Errorf("%v", err)
	}
}
