package edge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

// Why there is no connection is said in words, with what to do, from the errors of real ones.
func TestAFailedConnectionIsSaidInWords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	issue := func(name string, l fleet.Leaf) (ca *fleet.CA, cert tls.Certificate, c Config) {
		ca, err := fleet.NewCA(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := ca.Issue(l)
		if err != nil {
			t.Fatal(err)
		}
		if cert, err = tls.X509KeyPair(p.Chain, p.Key); err != nil {
			t.Fatal(err)
		}
		return ca, cert, Config{
			XDSCert: file(name+".crt", p.Chain), XDSKey: file(name+".key", p.Key), XDSCA: file(name+".ca", ca.PEM()),
		}
	}
	ca, cert, known := issue("one", fleet.Leaf{Names: []string{"plane.example"}, IPs: []string{"127.0.0.1"}})
	_, _, unknown := issue("two", fleet.Leaf{Names: []string{"edge.example"}})
	unbelieved := unknown
	unbelieved.XDSCA = known.XDSCA
	misnamed := known
	misnamed.XDSName = "other.example"
	serve := func(creds credentials.TransportCredentials) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer(grpc.Creds(creds))
		done := make(chan struct{})
		go func() { defer close(done); s.Serve(l) }()
		t.Cleanup(func() { s.Stop(); <-done })
		return l.Addr().String()
	}
	plain := serve(insecure.NewCredentials())
	mtls := serve(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
	}))
	for _, test := range []struct {
		c    Config
		xds  string
		says string
	}{
		{Config{}, "unix:" + filepath.Join(dir, "none.sock"), "nothing listens there"},
		{Config{}, "127.0.0.1:1", "nothing listens there"},
		{Config{}, mtls, "it may speak TLS there"},
		{known, plain, "plaintext there, and this edge speaks TLS"},
		{unknown, mtls, "not of the CA that is trusted here"},
		{misnamed, mtls, "has another name"},
		{unbelieved, mtls, "does not believe the certificate of this edge"},
	} {
		test.c.XDS = test.xds
		conn, err := dial(test.c)
		if err != nil {
			t.Fatal(err)
		}
		l := &link{tls: test.c.XDSCert != ""}
		var said string
		for range 100 { // the first error may be about a connection that ended, and not say why
			err = conn.Invoke(t.Context(), "/no/method", &emptypb.Empty{}, &emptypb.Empty{})
			if said, _ = l.diagnose(fmt.Sprint(err)); strings.Contains(said, test.says) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if !strings.Contains(said, test.says) {
			t.Errorf("%s, %v: %q, want %q", test.xds, err, said, test.says)
		}
		conn.Close()
	}
}

// The same reason is told once a minute. Another one, and the end, are told at once.
func TestTheSameFailureIsToldOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		l := &link{log: slog.New(slog.NewTextHandler(&b, nil)), xds: "a:1"}
		l.reached()
		for range 90 {
			l.lost(errors.New("dial: connection refused"))
			time.Sleep(time.Second)
		}
		l.lost(errors.New("EOF"))
		l.reached()
		l.reached()
		l.lost(errors.New("EOF"))
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 5 || !strings.Contains(lines[1], "same_before=59") ||
			!strings.Contains(lines[0], "xds=a:1") || !strings.Contains(lines[0], "start lockstepd") ||
			!strings.Contains(lines[3], "answers again") {
			t.Errorf("%d lines:\n%s", len(lines), b.String())
		}
	})
}
