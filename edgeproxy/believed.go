package edgeproxy

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
)

// believedNames are headers in which upstreams take the word of a proxy: who the client is, how it
// came, and for what it asked. They are written as believed compares them.
var believedNames = set(
	// the client's address
	"client-ip", "clientip", "x-client-ip", "x-clientip", "x-client-port", "x-client-host", "x-cluster-client-ip",
	"x-originating-ip", "x-custom-ip-authorization", "x-proxyuser-ip", "x-nf-client-connection-ip",
	"proxy-client-ip", "z-forwarded-for", "do-connecting-ip", "incap-client-ip", "x-sucuri-clientip",
	"x-vercel-forwarded-for", "x-vercel-proxied-for", "forwarded", "forwarded-for",
	// its user and its certificate
	"x-client-dn", "x-client-cn", "x-client-verify", "x-client-verified", "x-client-subject", "x-client-issuer",
	"x-consumer-id", "x-consumer-username", "x-consumer-custom-id", "x-consumer-groups",
	"x-credential-identifier", "x-anonymous-consumer",
	// the scheme, the host and the path
	"https", "x-https", "front-end-https", "x-scheme", "x-url-scheme", "x-host", "x-http-host-override",
	"x-original-url", "x-original-uri", "x-original-path", "x-original-method", "x-original-host",
	"x-original-proto", "x-original-scheme", "x-original-ip", "x-original-remote-addr", "x-original-forwarded-for",
	"script-name", "x-script-name", "path-info",
	// what servers tell each other, or themselves
	"proxy", "x-middleware-subrequest",
)

// believedPrefixes are beginnings of such headers, by their first letter.
var believedPrefixes = byLetter(
	"x-forward", "x-real-", "true-client-", "x-true-client-", "x-remote-", "remote-", "x-rewrite-", "x-envoy-",
	"x-ssl", "ssl-", "x-tls-", "x-mtls-", "client-cert", "x-client-cert", "x-client-ssl-", "x-client-tls-",
	"x-auth-request-", "x-authenticated-", "x-webauth-",
	"oidc-", "x-authentik-", "x-vouch-", "x-pomerium-", "tailscale-user-",
	"cf-", "cloudfront-", "fastly-", "fly-", "wl-proxy-", "x-arr-", "x-azure-", "x-ms-client-principal", "x-ms-token-",
	"x-appengine-", "x-goog-authenticated-user-", "x-goog-iap-", "x-amzn-mtls-", "x-amzn-oidc-", "x-amzn-tls-",
	"x-vercel-ip-", "x-accel-", "x-sendfile-",
)

func byLetter(list ...string) (all [256][]string) {
	for _, s := range list {
		all[s[0]] = append(all[s[0]], s)
	}
	return all
}

// believed reports whether a header is of that family. CGI, WSGI and their like do not tell a dash
// from an underscore or from any other sign, and some programs ask for the names of CGI (HTTP_…).
func believed(name string) bool {
	var b [48]byte // longer than every name and prefix with http- before it
	n := min(len(name), len(b))
	for i := range n {
		switch c := name[i]; {
		case 'A' <= c && c <= 'Z':
			b[i] = c + 'a' - 'A'
		case 'a' <= c && c <= 'z' || '0' <= c && c <= '9':
			b[i] = c
		default:
			b[i] = '-'
		}
	}
	plain := bytes.TrimPrefix(b[:n], []byte("http-"))
	if len(plain) == 0 {
		return false
	}
	for _, p := range believedPrefixes[plain[0]] {
		if len(plain) >= len(p) && string(plain[:len(p)]) == p {
			return true
		}
	}
	return n == len(name) && believedNames[string(plain)]
}

func set(list ...string) map[string]bool {
	all := make(map[string]bool, len(list))
	for _, s := range list {
		all[s] = true
	}
	return all
}

// withoutBelieved removes such headers.
func withoutBelieved(h http.Header) {
	for name := range h {
		if believed(name) {
			delete(h, name)
		}
	}
}

// tellClient sets what upstreams are told of the client. What a client says of itself is removed,
// from its trailers as well. What a trusted proxy says stays, even if a Connection header names it.
// Httputil removes that, and Forwarded, to which the edge adds nothing. Envoy does the same.
func (p *Proxy) tellClient(r *httputil.ProxyRequest) {
	e := entryOf(r.In.Context())
	if !p.trusts(r.In.RemoteAddr) {
		withoutBelieved(r.Out.Header)
		withoutBelieved(r.Out.Trailer)
		if e.body != nil {
			e.body.trailer = r.Out.Trailer
		}
		if e.xfcc != "" {
			r.Out.Header[xfcc] = []string{e.xfcc}
		}
		r.SetXForwarded()
		r.Out.Header["X-Real-Ip"] = []string{address(r.In.RemoteAddr)}
		return
	}
	for name, v := range r.In.Header {
		if believed(name) {
			r.Out.Header[name] = v
		}
	}
	if e.xfcc != "" { // one element for each hop, as in X-Forwarded-For
		r.Out.Header[xfcc] = []string{strings.Join(append(slices.Clone(r.In.Header[xfcc]), e.xfcc), ",")}
	}
	host, proto := r.Out.Header["X-Forwarded-Host"], r.Out.Header["X-Forwarded-Proto"]
	r.SetXForwarded()
	if len(host) > 0 {
		r.Out.Header["X-Forwarded-Host"] = host
	}
	if len(proto) > 0 {
		r.Out.Header["X-Forwarded-Proto"] = proto
	}
	if len(r.Out.Header["X-Real-Ip"]) == 0 {
		r.Out.Header["X-Real-Ip"] = []string{p.nearest(r.In)}
	}
}

// nearest returns the address of a request's client, which is behind trusted proxies. It is the
// last one of X-Forwarded-For that is not a trusted proxy's.
func (p *Proxy) nearest(r *http.Request) string {
	at := address(r.RemoteAddr)
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for _, hop := range slices.Backward(hops) {
		if !p.trusts(net.JoinHostPort(at, "0")) {
			break
		}
		hop = strings.TrimSpace(hop)
		ip, err := netip.ParseAddr(strings.Trim(hop, "[]"))
		if err != nil {
			with, err := netip.ParseAddrPort(hop)
			if err != nil {
				break
			}
			ip = with.Addr()
		}
		at = ip.Unmap().WithZone("").String()
	}
	return at
}

// address returns the IP address of host:port.
func address(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	return at.Addr().Unmap().WithZone("").String()
}
