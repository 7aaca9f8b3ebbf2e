package edgeproxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// balancers are the networks that the test's own connections come from.
func balancers(c *Config) { c.Listeners[0].ProxyProtocol = []string{"127.0.0.0/8"} }

// block is a header of version 2.
func block(command, family byte, addresses []byte, tlvs ...[]byte) []byte {
	rest := slices.Concat(append([][]byte{addresses}, tlvs...)...)
	return slices.Concat(proxyproto.SIGV2, []byte{command, family}, binary.BigEndian.AppendUint16(nil,
		uint16(len(rest))), rest)
}

func tlv(kind byte, value ...byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

// summed puts the right checksum into the last TLV of a header, which has room for it.
func summed(header []byte) []byte {
	sum := crc32.Checksum(header, crc32.MakeTable(crc32.Castagnoli))
	return binary.BigEndian.AppendUint32(header[:len(header)-4:len(header)-4], sum)
}

var (
	v4 = []byte{192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb} // from 192.0.2.7:12345
	v6 = slices.Concat(netip.MustParseAddr("2001:db8::7").AsSlice(), netip.MustParseAddr("2001:db8::1").AsSlice(),
		[]byte{0x30, 0x39, 0x01, 0xbb})
	unix = append([]byte("/run/client.sock"), make([]byte, 200)...)
)

const (
	local, onBehalf   = 0x20, 0x21
	unspec            = 0
	tcp4, udp4        = 0x11, 0x12
	tcp6, udp6        = 0x21, 0x22
	unixStream, dgram = 0x31, 0x32
)

// own stands for the balancer's own address in what follows.
const own = "127.0.0.1"

// proxyHeaders are headers with the client that each tells.
var proxyHeaders = map[string]struct {
	header []byte
	client string
}{
	"v1, IPv4":           {[]byte("PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n"), "192.0.2.7"},
	"v1, IPv6":           {[]byte("PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n"), "2001:db8::7"},
	"v1, unknown":        {[]byte("PROXY UNKNOWN\r\n"), own},
	"v1, unknown, long":  {[]byte("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n"), own},
	"v1, mapped":         {[]byte("PROXY TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 12345 443\r\n"), "192.0.2.7"},
	"v2, IPv4":           {block(onBehalf, tcp4, v4), "192.0.2.7"},
	"v2, IPv6":           {block(onBehalf, tcp6, v6), "2001:db8::7"},
	"v2, UDP over IPv4":  {block(onBehalf, udp4, v4), "192.0.2.7"},
	"v2, UDP over IPv6":  {block(onBehalf, udp6, v6), "2001:db8::7"},
	"v2, unix":           {block(onBehalf, unixStream, unix), own},
	"v2, unix datagrams": {block(onBehalf, dgram, unix), own},
	"v2, unspecified":    {block(onBehalf, unspec, nil), own},
	"v2, unspecified, with TLVs": {block(onBehalf, unspec, nil, tlv(0xea, 1, 'v', 'p', 'c')),
		own},
	"v2, local":                    {block(local, unspec, nil), own},
	"v2, local, with TLVs":         {block(local, unspec, nil, tlv(4, make([]byte, 40)...)), own},
	"v2, local, with an address":   {block(local, tcp4, v4), own},
	"v2, local, without its own":   {block(local, tcp4, nil), own},
	"v2, with TLVs":                {block(onBehalf, tcp4, v4, tlv(2, []byte(shop)...), tlv(4)), "192.0.2.7"},
	"v2, with TLVs of an SSL":      {block(onBehalf, tcp4, v4, tlv(0x20, 1, 0, 0, 0, 0)), "192.0.2.7"},
	"v2, with a certificate":       {block(onBehalf, tcp4, v4, tlv(0x28, make([]byte, 3000)...)), "192.0.2.7"},
	"v2, with a checksum":          {summed(block(onBehalf, tcp4, v4, tlv(2, 'x'), tlv(3, 0, 0, 0, 0))), "192.0.2.7"},
	"v2, IPv6, with a checksum":    {summed(block(onBehalf, tcp6, v6, tlv(3, 0, 0, 0, 0))), "2001:db8::7"},
	"v2, unix, with a checksum":    {summed(block(onBehalf, unixStream, unix, tlv(3, 0, 0, 0, 0))), own},
	"v2, no more, with a checksum": {summed(block(onBehalf, unspec, nil, tlv(3, 0, 0, 0, 0))), own},
}

// badHeaders are refused, with words that hold these.
var badHeaders = map[string]struct {
	header []byte
	words  string
}{
	"TLS":                     {[]byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0}, "send-proxy-v2"},
	"HTTP":                    {[]byte("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"), "not begin with a header"},
	"another word with a P":   {[]byte("POST / HTTP/1.1\r\nHost: shop.example\r\n\r\n"), "not begin with a header"},
	"v1, a line too long":     {append([]byte("PROXY UNKNOWN "), bytes.Repeat([]byte("x"), 200)...), "too long"},
	"v1, no address":          {[]byte("PROXY TCP4\r\n"), ""},
	"v1, no carriage return":  {[]byte("PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\n"), ""},
	"v1, two spaces":          {[]byte("PROXY TCP4  192.0.2.7 10.0.0.1 12345 443\r\n"), ""},
	"v1, other family":        {[]byte("PROXY TCP4 2001:db8::7 2001:db8::1 12345 443\r\n"), ""},
	"v1, port too high":       {[]byte("PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n"), ""},
	"v1, leading zeros":       {[]byte("PROXY TCP4 192.0.02.7 10.0.0.1 12345 443\r\n"), ""},
	"v1, lower case":          {[]byte("proxy TCP4 192.0.2.7 10.0.0.1 12345 443\r\n"), "not begin with a header"},
	"v1, a zone":              {[]byte("PROXY TCP6 fe80::1%eth0 fe80::2 12345 443\r\n"), ""},
	"v2, another signature":   {append([]byte("\r\n\r\n\x00\r\nQUIX\n"), block(onBehalf, tcp4, v4)[12:]...), "begin"},
	"v2, version 3":           {block(0x31, tcp4, v4), ""},
	"v2, command 2":           {block(0x22, tcp4, v4), ""},
	"v2, family 4":            {block(onBehalf, 0x41, v4), ""},
	"v2, transport 3":         {block(onBehalf, 0x13, v4), ""},
	"v2, addresses cut off":   {block(onBehalf, tcp4, v4[:8]), ""},
	"v2, too long":            {block(onBehalf, tcp4, v4, tlv(4, make([]byte, 5000)...)), "too long: 5015 bytes"},
	"v2, a TLV cut off":       {block(onBehalf, tcp4, v4, tlv(2, []byte(shop)...)[:9]), "TLVs are cut off"},
	"v2, half a TLV":          {block(onBehalf, tcp4, v4, []byte{2}), "TLVs are cut off"},
	"v2, wrong checksum":      {block(onBehalf, tcp4, v4, tlv(3, 1, 2, 3, 4)), "checksum"},
	"v2, half a checksum":     {block(onBehalf, tcp4, v4, tlv(3, 1, 2)), "checksum"},
	"v2, nobody's, summed up": {block(onBehalf, unspec, nil, tlv(3, 1, 2, 3, 4)), "checksum"},
}

// behind makes a TLS connection whose header comes first, and asks for what the upstream is sent.
func behind(r *rig, header []byte, proto string) (seen http.Header, err error) {
	c, err := net.Dial("tcp", r.addrs[0])
	check(r.TB, err)
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(header); err != nil {
		return nil, err
	}
	t := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{RootCAs: r.ca.Pool()}}
	t.Protocols.SetHTTP1(proto == "http/1.1")
	t.Protocols.SetHTTP2(proto == "h2")
	t.DialContext = func(context.Context, string, string) (net.Conn, error) { return c, nil }
	defer t.CloseIdleConnections()
	resp, err := (&http.Client{Transport: t}).Get("https://" + shop + "/")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return seen, json.NewDecoder(resp.Body).Decode(&seen)
}

func TestAHeaderOfTheProxyProtocolTellsTheClient(t *testing.T) {
	t.Parallel()
	r := to(t, balancers, origin(t, "http", seen))
	n := 0
	for what, c := range proxyHeaders {
		for _, proto := range protos {
			got, err := behind(r, c.header, proto)
			if err != nil {
				t.Errorf("%s, %s: %v", what, proto, err)
				continue
			}
			if fmt.Sprint(got["X-Forwarded-For"]) != "["+c.client+"]" {
				t.Errorf("%s, %s: the upstream is told %v, not %s", what, proto, got["X-Forwarded-For"], c.client)
			}
			n++
			line := r.lines(n)[n-1]
			remote, _, err := net.SplitHostPort(fmt.Sprint(line["remote"]))
			if err != nil || remote != c.client {
				t.Errorf("%s, %s: logged as %v", what, proto, line)
			}
			if told := line["balancer"] != nil; told != (c.client != own) {
				t.Errorf("%s, %s: the log names the balancer: %v", what, proto, line)
			}
		}
	}
	for what, c := range badHeaders {
		if got, err := behind(r, c.header, "h2"); err == nil {
			t.Errorf("%s: taken, as %v", what, got)
		}
		client, _, err := proxyHeader(bufio.NewReader(bytes.NewReader(c.header)))
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, %v", what, client, err)
		}
	}
	r.until("every refusal is counted", func() bool {
		return r.count("lockstep_edge_handshakes_failed_total") == float64(len(badHeaders))
	})
}

func TestTheClientOfAHeaderIsTheOneThatIsTrusted(t *testing.T) {
	t.Parallel()
	for trusted, want := range map[string]string{
		"192.0.2.0/24": "[6.6.6.6, 192.0.2.7]", // a proxy behind the balancer
		"127.0.0.0/8":  "[192.0.2.7]",          // the balancer is trusted, its client is not
	} {
		r := to(t, func(c *Config) {
			balancers(c)
			c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix(trusted)}
		}, origin(t, "http", seen))
		c, err := net.Dial("tcp", r.addrs[0])
		check(t, err)
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		c.Write(block(onBehalf, tcp4, v4))
		tunnel := tls.Client(c, &tls.Config{RootCAs: r.ca.Pool(), ServerName: shop})
		_, err = io.WriteString(tunnel, "GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 6.6.6.6\r\n"+
			"Connection: close\r\n\r\n")
		check(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(tunnel), nil)
		check(t, err)
		var got http.Header
		check(t, json.NewDecoder(resp.Body).Decode(&got))
		if fmt.Sprint(got["X-Forwarded-For"]) != want {
			t.Errorf("%s is trusted: %v, not %s", trusted, got["X-Forwarded-For"], want)
		}
	}
}

func TestOnlyNamedNetworksSendAHeader(t *testing.T) {
	t.Parallel()
	for _, networks := range [][]string{nil, {"10.0.0.0/8", "2001:db8::/32"}} {
		r := to(t, func(c *Config) { c.Listeners[0].ProxyProtocol = networks }, origin(t, "http", seen))
		for what, c := range proxyHeaders {
			if got, err := behind(r, c.header, "h2"); err == nil {
				t.Errorf("%v, %s: a stranger's header is taken: %v", networks, what, got)
			}
		}
		got, err := behind(r, nil, "h2")
		if err != nil || fmt.Sprint(got["X-Forwarded-For"]) != "[127.0.0.1]" {
			t.Errorf("%v: without a header: %v, %v", networks, got, err)
		}
	}
}

// halves are headers that do not come to their end.
var halves = []string{"", "P", "PROXY TCP4 192.0.2.7", "\r", "\r\n\r\n\x00\r\nQUIT\n",
	string(block(onBehalf, tcp4, v4)[:20])}

// halve makes a connection for each half.
func (r *rig) halve() (all []net.Conn) {
	for _, half := range halves {
		c, err := net.Dial("tcp", r.addrs[0])
		check(r.TB, err)
		r.Cleanup(func() { c.Close() })
		_, err = io.WriteString(c, half)
		check(r.TB, err)
		all = append(all, c)
	}
	return all
}

func TestASlowHeaderKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	r := to(t, balancers, origin(t, "http", seen))
	r.halve()
	if _, err := behind(r, proxyHeaders["v2, IPv4"].header, "h2"); err != nil {
		t.Errorf("a client after some that say nothing: %v", err)
	}
	for _, what := range []string{"v1, IPv4", "v2, IPv6"} { // in pieces
		c, err := net.Dial("tcp", r.addrs[0])
		check(t, err)
		t.Cleanup(func() { c.Close() })
		for _, b := range proxyHeaders[what].header {
			_, err = c.Write([]byte{b})
			check(t, err)
		}
		if err := tls.Client(c, &tls.Config{RootCAs: r.ca.Pool(), ServerName: shop}).Handshake(); err != nil {
			t.Errorf("%s, byte by byte: %v", what, err)
		}
	}
}

func TestASlowHeaderHasItsTime(t *testing.T) {
	t.Parallel()
	r := to(t, func(c *Config) {
		balancers(c)
		c.Timeouts.Header = 300 * time.Millisecond
	}, origin(t, "http", seen))
	for _, c := range r.halve() {
		closed(t, c)
	}
}

// A check whether the port is open is no header that cannot be used.
func TestABalancerThatSaysNothingHasNoLine(t *testing.T) {
	t.Parallel()
	r := to(t, balancers, origin(t, "http", seen))
	for _, half := range halves {
		writes(r.addrs[0], half, false)
	}
	n := float64(len(halves))
	r.until("all are counted", func() bool { return r.count("lockstep_edge_handshakes_failed_total") == n })
	if got := r.labelled("lockstep_edge_handshakes_failed_total", "closed"); got != n {
		t.Errorf("%v of %v are counted as closed", got, n)
	}
	for l := range strings.Lines(r.own.String()) {
		if strings.Contains(l, `"reason"`) && !strings.Contains(l, `"DEBUG"`) {
			t.Errorf("%s", l)
		}
	}
	for what, c := range badHeaders { // their ends are not those of the connection
		_, _, err := proxyHeader(bufio.NewReader(bytes.NewReader(c.header)))
		if got := reasonOf(fmt.Errorf("PROXY protocol: %w", err)); got != proxyHeaderBad {
			t.Errorf("%s: %s", what, got)
		}
	}
}

func FuzzProxyHeader(f *testing.F) {
	for _, c := range proxyHeaders {
		f.Add(c.header)
	}
	for _, c := range badHeaders {
		f.Add(c.header)
	}
	const after = "what the client says"
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(append(bytes.Clone(b), after...))
		r := bufio.NewReaderSize(in, 256)
		client, _, err := proxyHeader(r)
		if err != nil && client != nil {
			t.Errorf("%v with %v", client, err)
		}
		if read := len(b) + len(after) - in.Len() - r.Buffered(); read > 16+maxProxyBlock {
			t.Errorf("%d bytes were read", read)
		}
		if client != nil && !netip.MustParseAddrPort(client.String()).IsValid() {
			t.Errorf("no address: %v", client)
		}
		// A reader of the library alone takes what this one takes, but for headers of no family.
		h, theirs := proxyproto.Read(bufio.NewReader(bytes.NewReader(append(bytes.Clone(b), after...))))
		if err == nil && theirs != nil && !errors.Is(theirs, proxyproto.ErrUnsupportedAddressFamilyAndProtocol) {
			t.Errorf("taken, and by the library %v: %v", h, theirs)
		}
	})
}

func TestAnAddressThatIsNoNetworkIsRefusedWithWhatToWrite(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{"10.0.0.1": "write 10.0.0.1/32", "::1": "write ::1/128",
		"fe80::1%eth0": "10.0.0.0/8", "balancer": "such as 10.0.0.0/8"} {
		if _, err := Networks("proxy_protocol", []string{s}); err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", s, err, want)
		}
	}
}
