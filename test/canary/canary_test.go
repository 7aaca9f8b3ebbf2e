// Package canary looks for a ticket key and a private key that it knows in everything that
// lockstepd lets out or writes down.
package canary

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// secret is a run of bytes in all the forms that it is looked for.
type secret struct {
	name  string
	forms map[string][]byte
}

func newSecret(name string, b []byte) secret {
	s := secret{name, map[string][]byte{
		"raw": b, "hex": []byte(hex.EncodeToString(b)), "HEX": []byte(strings.ToUpper(hex.EncodeToString(b))),
	}}
	numbers := strings.Trim(strings.ReplaceAll(fmt.Sprint(b), " ", ","), "[]")
	s.forms["JSON numbers"], s.forms["printed"] = []byte(numbers), []byte(strings.Trim(fmt.Sprint(b), "[]"))
	for _, enc := range []struct {
		name string
		*base64.Encoding
	}{{"base64", base64.RawStdEncoding}, {"base64url", base64.RawURLEncoding}} {
		for shift := range 3 {
			// where the secret stands within something larger, the characters at its edges are
			// shared with it
			for half, part := range [][]byte{b[:len(b)/2], b[len(b)/2:]} {
				// PEM breaks lines: one half is whole
				text := enc.EncodeToString(append(make([]byte, shift), part...))
				s.forms[fmt.Sprint(enc.name, shift, half)] = []byte(text[(shift*8+5)/6 : len(text)-1])
			}
		}
	}
	return s
}

func (s secret) in(b []byte) string {
	for form, want := range s.forms {
		if bytes.Contains(b, want) {
			return form
		}
	}
	return ""
}

func TestFindsWhatItLooksFor(t *testing.T) {
	key := make([]byte, 32)
	rand.Read(key)
	s := newSecret("key", key)
	padded := append([]byte("xy"), append(bytes.Clone(key), "tail"...)...)
	for _, text := range []string{string(padded), hex.EncodeToString(padded), base64.StdEncoding.EncodeToString(padded),
		base64.URLEncoding.EncodeToString(padded[1:]),
		base64.StdEncoding.EncodeToString(key), fmt.Sprint(key), fmt.Sprintf("%v", padded)} {
		if s.in([]byte("before "+text+" after")) == "" {
			t.Errorf("not found in %q", text)
		}
	}
	if form := s.in(make([]byte, 1000)); form != "" {
		t.Error(form)
	}
}

func TestNoKeyLeavesTheProcessInTheClear(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bin, err := fleet.Build(ctx, "lockstepd", "lockstep")
	check(err)
	f := fleet.ForTest(t)
	ca, err := fleet.NewCA("canary CA")
	check(err)

	ticketKey := make([]byte, 80)
	rand.Read(ticketKey)
	second := make([]byte, 80)
	rand.Read(second)
	secrets := []secret{
		newSecret("HMAC key", ticketKey[16:48]),
		newSecret("AES key", ticketKey[48:]), newSecret("whole key", ticketKey),
		newSecret("burnt AES key", second[48:]),
	}
	pairs := map[string]fleet.Pair{}
	for _, host := range []string{"dir.example", "put.example"} {
		pairs[host], err = ca.Issue(fleet.Leaf{Names: []string{host}})
		check(err)
		secrets = append(secrets, newSecret("private key of "+host, scalar(t, pairs[host].Key)))
	}
	certs := filepath.Join(f.Dir(), "certs")
	check(fleet.WriteHost(certs, "dir.example", pairs["dir.example"]))
	plane, err := f.Lockstepd("lockstepd", fleet.Lockstepd{
		Bin: bin, Certs: certs,
		Args: []string{"--refresh", "200ms", "--audit-file", filepath.Join(f.Dir(), "audit.log")},
	})
	check(err)
	check(plane.Ready(ctx))

	var out bytes.Buffer // all that is answered, announced or printed
	token := read(t, filepath.Join(plane.Data, "nats.token"))
	conn, err := nats.Connect("nats://" + strings.TrimSpace(string(token)) + "@" + plane.NATS)
	check(err)
	defer conn.Close()
	announced := make(chan []byte, 1000)
	_, err = conn.Subscribe("lockstep.events.>", func(m *nats.Msg) { announced <- m.Data })
	check(err)
	check(conn.Flush())

	lockstep := func(args ...string) {
		t.Helper()
		b, err := f.Run(ctx, filepath.Join(bin, "lockstep"), append([]string{"--data-dir", plane.Data}, args...)...)
		out.Write(b)
		fmt.Fprintln(&out, err)
	}
	file := func(name string, b []byte) string {
		path := filepath.Join(f.Dir(), name)
		check(os.WriteFile(path, b, 0o600))
		return path
	}
	first, other := file("key", ticketKey), file("key2", second)
	lockstep("rotate", "--wait", "--key-file", first)
	lockstep("rotate", "--wait", "--key-file", other)
	lockstep("rotate", "--key-file", first) // refused: the ring holds it
	lockstep("rotate", "--key-file", file("short", ticketKey[:79]))
	lockstep("rotate", "--key-file", file("text", []byte(hex.EncodeToString(ticketKey))))
	crt, key := file("put.crt", pairs["put.example"].Chain), file("put.key", pairs["put.example"].Key)
	lockstep("cert", "put", "put.example", "--cert", crt, "--key", key)
	// refused: another name
	lockstep("cert", "put", "other.example", "--cert", crt, "--key", key)
	// refused: another key
	lockstep("cert", "put", "put.example", "--cert", file("dir.crt", pairs["dir.example"].Chain), "--key", key)
	// refused: cut short
	lockstep("cert", "put", "put.example", "--cert", crt, "--key", file("half.key", pairs["put.example"].Key[:90]))
	lockstep("cert", "get", "put.example", "-o", "json")
	lockstep("burn", "--yes", "--wait")
	lockstep("rotate", "--key-file", first) // refused: burnt
	for _, args := range []string{"status", "nodes", "history", "plan", "cert list", "audit show", "audit verify",
		"audit verify --file " + filepath.Join(f.Dir(), "audit.log")} {
		for _, as := range []string{"table", "json", "yaml"} {
			lockstep(append(strings.Fields(args), "-o", as)...)
		}
	}
	admin := strings.TrimSpace(string(read(t, filepath.Join(plane.Data, "admin.token"))))
	requests := []string{
		"GET /v1/status", "GET /v1/nodes", "GET /v1/certs", "GET /v1/certs/put.example",
		"GET /v1/certs/dir.example", "GET /v1/scopes/default/history",
		"GET /v1/scopes/default/plan", "GET /v1/audit", "GET /v1/audit/verify", "POST /v1/audit/verify",
		"GET /v1/scopes/default/rotations/1", "GET /metrics", "GET /healthz",
		"GET /readyz", "GET /debug/pprof/cmdline",
		"GET /debug/pprof/goroutine?debug=2", "POST /v1/scopes/default/rotate", "PUT /v1/certs/put.example",
	}
	bodies := []string{"", fmt.Sprintf(`{"key":%q,"why":1}`, base64.StdEncoding.EncodeToString(ticketKey)),
		fmt.Sprintf(`{"key":%q}`, base64.StdEncoding.EncodeToString(ticketKey)),
		fmt.Sprintf(`{"chain":"AAAA","key":%q}`, base64.StdEncoding.EncodeToString(pairs["put.example"].Key))}
	for _, r := range requests {
		for _, body := range bodies {
			method, path, _ := strings.Cut(r, " ")
			req, err := http.NewRequestWithContext(ctx, method, "http://"+plane.Admin+path, strings.NewReader(body))
			check(err)
			req.Header.Set("Authorization", "Bearer "+admin)
			resp, err := http.DefaultClient.Do(req)
			check(err)
			_, err = io.Copy(&out, resp.Body)
			check(err)
			resp.Body.Close()
		}
	}
	check(plane.Stop(10 * time.Second))
	events := len(announced)
	for range events {
		out.Write(<-announced)
	}
	if events < 6 {
		t.Errorf("only %d events were heard: this test would not notice much", events)
	}

	look := func(where string, b []byte) {
		for _, s := range secrets {
			if form := s.in(b); form != "" {
				t.Errorf("the %s stands in %s, as %s", s.name, where, form)
			}
		}
	}
	look("answers, events and output", out.Bytes())
	look("the log", read(t, plane.LogFile()))
	audit := read(t, filepath.Join(f.Dir(), "audit.log"))
	look("the audit log", audit)
	for _, what := range []string{`"distributing"`, `"burning"`, `"cert-put"`} {
		if !bytes.Contains(audit, []byte(what)) {
			t.Errorf("the audit log has no %s: something is missing", what)
		}
	}
	stored := 0
	check(filepath.WalkDir(plane.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		stored++
		look(d.Name(), read(t, path))
		return nil
	}))
	if stored < 4 || out.Len() < 10_000 {
		t.Errorf("%d files and %d bytes of output were searched: something is missing", stored, out.Len())
	}
	// The store holds them nevertheless: sealed.
	if db := read(t, filepath.Join(plane.Data, "store.db")); !bytes.Contains(db, []byte("cert/put.example")) {
		t.Error("the certificate is not in the store: nothing was shown")
	}
}

// scalar is what is secret in an ECDSA private key.
func scalar(t *testing.T, pemKey []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(pemKey)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	b, err := key.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
