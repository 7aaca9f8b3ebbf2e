package identity

import (
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestWhoACertificateIs(t *testing.T) {
	many := make([]string, 40)
	for i := range many {
		many[i] = "n" + strconv.Itoa(i)
	}
	for name, c := range map[string]struct {
		uris, dns []string
		want      string
	}{
		"a SPIFFE ID": {[]string{"spiffe://fleet.example/edge/1"}, nil, "spiffe://fleet.example/edge/1"},
		"and nothing beside it": {
			[]string{"spiffe://fleet.example/edge/1"}, []string{"other.example"}, "spiffe://fleet.example/edge/1",
		},
		"two of them": {
			[]string{"spiffe://fleet.example/a", "spiffe://fleet.example/b"}, []string{"a.example"}, "",
		},
		"one and another URI": {
			[]string{"spiffe://fleet.example/a", "https://a.example"}, []string{"a.example"}, "",
		},
		"a malformed one":         {[]string{"spiffe://fleet.example/a//b"}, []string{"a.example"}, ""},
		"with a port":             {[]string{"spiffe://fleet.example:1/a"}, nil, ""},
		"with a query":            {[]string{"spiffe://fleet.example/a?b"}, nil, ""},
		"a DNS name":              {nil, []string{"Edge-1.Example."}, "edge-1.example"},
		"beside another URI":      {[]string{"https://a.example"}, []string{"a.example"}, "a.example"},
		"DNS names":               {nil, []string{"edge-1", "edge_1.example", "EDGE-1"}, "edge-1 edge_1.example"},
		"what could be two names": {nil, []string{"a b", "unix:uid=0", "spiffe://x/y", "", "ok"}, "ok"},
		"too many":                {nil, many, strings.Join(many[:maxNames], " ")},
		"a common name alone":     {nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			crt := &x509.Certificate{DNSNames: c.dns}
			crt.Subject.CommonName = "spiffe://fleet.example/admin"
			for _, s := range c.uris {
				u, err := url.Parse(s)
				if err != nil {
					t.Fatal(err)
				}
				crt.URIs = append(crt.URIs, u)
			}
			if got := FromCertificate(crt); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestWhoIsBehindASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := FromSocket(in.(*net.UnixConn))
	if want := "unix:uid=" + strconv.Itoa(os.Getuid()); err != nil || got != want {
		t.Errorf("%q %v, want %q", got, err, want)
	}
	out.Close()
	in.Close()
	if got, err := FromSocket(in.(*net.UnixConn)); err == nil || got != "" {
		t.Errorf("of a closed connection: %q", got)
	}
}
