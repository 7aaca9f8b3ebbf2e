package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/pires/go-proxyproto"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockstep-tls/lockstep/cmd/internal/backup"
	"github.com/lockstep-tls/lockstep/keysource"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lockstep": main})
}

// Each script has a fake lockstepd (see fake_test.go), whose answers are files of the script, and a
// data directory that leads to it.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			data := filepath.Join(env.WorkDir, "data")
			if err := os.Mkdir(data, 0o700); err != nil {
				return err
			}
			f, err := startFake(env.WorkDir)
			if err != nil {
				return err
			}
			env.Defer(f.stop)
			env.Setenv("LOCKSTEP_DATA_DIR", data)
			env.Setenv("URL", f.url())
			deploy, err := filepath.Abs("../../deploy")
			if err != nil {
				return err
			}
			env.Setenv("DEPLOY", deploy)
			env.Setenv("TZ", "UTC")
			env.Setenv("HOME", env.WorkDir)
			// else each command under the race detector sleeps for a second
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			if err := os.WriteFile(filepath.Join(data, addrFile), []byte(f.url()+"\n"), 0o600); err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(data, tokenFile), []byte(token+"\n"), 0o600)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits":   exits,
			"mkcert":  mkcert,
			"mkkey":   mkkey,
			"mkbak":   mkbak,
			"tlsnode": tlsnode,
			"tally":   tally,

			"fingerprint": fingerprint,
		},
	})
}

// exits CODE lockstep ARGS... runs it and checks its exit code; stdout and stderr work as after
// exec.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if err != nil {
		if _, err := fmt.Sscanf(err.Error(), "exit status %d", &got); err != nil {
			ts.Fatalf("%v", err)
		}
	}
	if got != want {
		ts.Fatalf("%v: exit code %d, want %d", args[1:], got, want)
	}
}

// tally N PATTERN checks how many lines of the fake's log of requests hold the text.
func tally(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := bytes.Count([]byte(ts.ReadFile("requests")), []byte(args[1])); got != want {
		ts.Fatalf("%d requests hold %q, want %d", got, args[1], want)
	}
}

func certify(names ...string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// mkcert DIR NAME... writes DIR/tls.crt and DIR/tls.key.
func mkcert(ts *testscript.TestScript, _ bool, args []string) {
	c, err := certify(args[1:]...)
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	ts.Check(err)
	ts.Check(os.WriteFile(filepath.Join(dir, "tls.crt"),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600))
	ts.Check(os.WriteFile(filepath.Join(dir, "tls.key"),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// mkkey writes the same random key in each form, and bad ones.
func mkkey(ts *testscript.TestScript, _ bool, _ []string) {
	k := keysource.NewTicketKey()
	b64 := base64.StdEncoding.EncodeToString
	ts.Setenv("KEY", b64(k[:]))
	for name, b := range map[string][]byte{
		"raw.key":     k[:],
		"base64.key":  []byte(b64(k[:]) + "\n"),
		"wrapped.key": []byte(" " + b64(k[:])[:64] + "\n" + b64(k[:])[64:] + "\r\n"),
		"hex.key":     []byte(hex.EncodeToString(k[:]) + "\n"),
		"48.key":      k[:48],
		"48hex.key":   []byte(hex.EncodeToString(k[:48])),
		"79.key":      k[:79],
		"79b64.key":   []byte(b64(k[:79])),
		"81.key":      append(k[:], '\n'),
		"zero.key":    make([]byte, 80),
		"empty.key":   nil,
		"huge.key":    make([]byte, 5000),
		"pem.key":     pem.EncodeToMemory(&pem.Block{Type: "TICKET KEY", Bytes: k[:]}),
	} {
		ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o600))
	}
}

// mkbak FILE IDENTITY writes a backup of nothing, and what opens it.
func mkbak(ts *testscript.TestScript, _ bool, args []string) {
	id, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(id.String()+"\n"), 0o600))
	var b bytes.Buffer
	enc, err := age.Encrypt(&b, id.Recipient())
	ts.Check(err)
	w, err := backup.NewWriter(enc, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	ts.Check(err)
	ts.Check(w.Close())
	ts.Check(enc.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b.Bytes(), 0o600))
}

// tlsnode VAR FILE KEYS [proxied] starts TLS nodes with a common certificate, which it writes to
// FILE; one for each letter of KEYS, which stands for its ticket key; - stands for none. Their
// addresses go to $VAR1, $VAR2, ... If they are proxied, they demand the PROXY protocol.
func tlsnode(ts *testscript.TestScript, _ bool, args []string) {
	c, err := certify("shop.example")
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600))
	for i, letter := range []byte(args[2]) {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{c}}
		if s.TLS.SessionTicketsDisabled = letter == '-'; letter != '-' {
			s.TLS.SetSessionTicketKeys([][32]byte{{letter}})
		}
		if len(args) > 3 {
			s.Listener = &proxyproto.Listener{Listener: s.Listener}
		}
		s.StartTLS()
		ts.Defer(s.Close)
		ts.Setenv(args[0]+strconv.Itoa(i+1), s.Listener.Addr().String())
	}
}

// fingerprint CERT FILE writes a configuration whose scope partners declares that CA.
func fingerprint(ts *testscript.TestScript, _ bool, args []string) {
	block, _ := pem.Decode([]byte(ts.ReadFile(args[0])))
	sum := sha256.Sum256(block.Bytes)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), fmt.Appendf(nil, "scopes: {partners: {client_certs: %X}}\n", sum), 0o600))
}
