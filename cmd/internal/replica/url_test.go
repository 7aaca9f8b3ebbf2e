package replica

import (
	"net"
	"os"
	"testing"
)

func TestTheAddressThatOthersAreTold(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 18080} }
	for _, c := range []struct {
		listen string
		addr   net.Addr
		want   string
	}{
		{"127.0.0.1:0", tcp("127.0.0.1"), "https://127.0.0.1:18080"},
		{"0.0.0.0:18080", tcp("0.0.0.0"), "https://" + host + ":18080"},
		{":18080", tcp("::"), "https://" + host + ":18080"},
		{"[::1]:18080", tcp("::1"), "https://[::1]:18080"},
		{"replica-1.example:18080", tcp("192.0.2.1"), "https://replica-1.example:18080"},
		{"unix:/run/s", &net.UnixAddr{Name: "/run/s", Net: "unix"}, ""},
	} {
		if got := URL("https", c.listen, c.addr); got != c.want {
			t.Errorf("%s: %q, want %q", c.listen, got, c.want)
		}
	}
}
