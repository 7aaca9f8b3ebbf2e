package edgeproxy

import (
	"cmp"
	"net/http"
	pathpkg "path"
	"slices"
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

// router finds the handler of a request.
type router struct {
	hosts map[keysource.Name][]prefixed // by pattern: a name, a wildcard, "*"; the longest path first
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

// find returns nil where no route matches. The path is compared as an upstream would understand it: "/public/../admin" is "/admin".
func (r *router) find(host keysource.Name, urlPath string) http.Handler {
	if strings.Contains(urlPath, "/.") || strings.Contains(urlPath, "//") {
		urlPath = pathpkg.Clean(urlPath)
	}
	for _, pattern := range []keysource.Name{host, host.Wildcard(), "*"} {
		for _, p := range r.hosts[pattern] {
			if rest, ok := strings.CutPrefix(urlPath, p.prefix); ok && (rest == "" || rest[0] == '/' || p.prefix == "") {
				return p.handler
			}
		}
	}
	return nil
}
