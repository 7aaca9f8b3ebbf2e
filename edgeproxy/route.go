package edgeproxy

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

// router finds the handler of a request.
type router struct {
	// hosts holds the routes by pattern (a name, a wildcard, "*"), the longest path first.
	hosts map[keysource.Name][]prefixed
}

type prefixed struct {
	prefix  string // without the last slash; empty for "/"
	handler http.Handler
}

func (r *router) add(host keysource.Name, prefix string, h http.Handler) {
	if r.hosts == nil {
		r.hosts = make(map[keysource.Name][]prefixed)
	}
	paths := append(r.hosts[host], prefixed{strings.TrimSuffix(prefix, "/"), h})
	slices.SortStableFunc(paths, func(a, b prefixed) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	r.hosts[host] = paths
}

// find returns nil if no route matches. Paths go to upstreams as they came, and upstreams read
// them in different ways. Some take %2f and \ for a slash, merge slashes, or drop what follows a
// semicolon. So a path must lead to the same route for the strictest and for the loosest reader.
// No reader may find a dot segment in it. Otherwise the error is errPath.
func (r *router) find(host keysource.Name, u *url.URL) (http.Handler, error) {
	raw := sentPath(u)
	if !strings.ContainsAny(raw, `%;\`) && !strings.Contains(raw, "//") && !strings.Contains(raw, "/.") {
		return r.match(host, raw).handler, nil
	}
	most, ok := loosest(u.Path)
	if !ok {
		return nil, errPath
	}
	strict, err := url.PathUnescape(slashless.Replace(raw))
	if err != nil {
		return nil, errPath
	}
	h := r.match(host, strict)
	if r.match(host, most) != h {
		return nil, errPath
	}
	return h.handler, nil
}

// keepPath makes u send the path of a request as the client wrote it. It returns false if that
// cannot be: an upstream would find another request in the line, or cut a fragment off. By itself
// net/url writes a path anew that has a byte which it would escape. Then %2F becomes a slash.
func keepPath(u *url.URL, target string) bool {
	raw, _, _ := strings.Cut(target, "?")
	if raw != "" && raw[0] != '/' { // scheme://authority/path
		_, raw, _ = strings.Cut(raw, ":")
		if rest, ok := strings.CutPrefix(raw, "//"); ok {
			raw = strings.TrimLeftFunc(rest, func(r rune) bool { return r != '/' })
		}
	}
	switch {
	case raw == "" || raw == u.EscapedPath():
		return true // net/url sends a slash for an empty path
	case raw[0] != '/' || strings.ContainsAny(raw, " #") || strings.HasPrefix(raw, "//"):
		return false // net/url would take what follows two slashes for a host
	}
	u.Opaque = raw
	return true
}

// sentPath returns the path that upstreams are sent.
func sentPath(u *url.URL) string {
	if u.Opaque != "" {
		return u.Opaque
	}
	return u.EscapedPath()
}

// slashless replaces encoded slashes by something that matches no slash.
var slashless = strings.NewReplacer("%2f", "%00", "%2F", "%00")

// loosest returns a decoded path as the loosest reader understands it. ok is false if that reader
// finds a dot segment.
func loosest(path string) (out string, ok bool) {
	var b strings.Builder
	segments := strings.Split(strings.ReplaceAll(path, `\`, "/"), "/")
	for i, s := range segments {
		s, _, _ = strings.Cut(s, ";")
		if s == "." || s == ".." {
			return "", false
		}
		if s != "" || i == len(segments)-1 {
			b.WriteString("/" + s)
		}
	}
	return b.String(), true
}

// match returns the route of a path, or one without a handler.
func (r *router) match(host keysource.Name, path string) *prefixed {
	for _, pattern := range []keysource.Name{host, host.Wildcard(), "*"} {
		for i, p := range r.hosts[pattern] {
			if rest, ok := strings.CutPrefix(path, p.prefix); ok && (rest == "" || rest[0] == '/') {
				return &r.hosts[pattern][i]
			}
		}
	}
	return &noRoute
}

var noRoute prefixed
