package edgeproxy

import (
	"errors"
	"net/http"
	"net/url"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
)

type place string

func (place) ServeHTTP(http.ResponseWriter, *http.Request) {}

func TestTheMostSpecificRouteWins(t *testing.T) {
	var r router
	for _, c := range [][2]string{
		{"*", "/"}, {"*", "/health"}, {"*.example.org", "/"}, {"*.example.org", "/api"}, {"a.example.org", "/api/v1/"},
		{"a.example.org", "/api"}, {"only.example", "/x"}, {"a.example.org", "/café x"},
	} {
		r.add(keysource.Name(c[0]), c[1], place(c[0]+c[1]))
	}
	const ambiguous = "ambiguous"
	for _, c := range [][3]string{
		{"a.example.org", "/", "*.example.org/"}, {"a.example.org", "/api", "a.example.org/api"},
		{"a.example.org", "/apis", "*.example.org/"}, {"a.example.org", "/api/", "a.example.org/api"},
		{"a.example.org", "/api/v1", "a.example.org/api/v1/"}, {"a.example.org", "/api/v1/x", "a.example.org/api/v1/"},
		{"a.example.org", "/api/v10", "a.example.org/api"},
		{"b.example.org", "/api/v1", "*.example.org/api"}, {"a.b.example.org", "/api", "*/"},
		{"example.org", "/", "*/"}, {"only.example", "/y", "*/"}, {"only.example", "/x", "only.example/x"},
		{"", "/", "*/"}, {"", "/health/live", "*/health"}, {"a.example.org", "/health", "*.example.org/"},
		{"a.example.org", "/API", "*.example.org/"},
		{"a.example.org", "/caf%C3%A9%20x/y", "a.example.org/café x"},
		// a slash that is none, and a dot segment that not everybody sees
		{"a.example.org", "/api%2fv1", ambiguous}, {"a.example.org", "/api%2Fv2", ambiguous},
		{"a.example.org", "/x%2Fy", "*.example.org/"}, {"a.example.org", "/api/v1/a%2fb", "a.example.org/api/v1/"},
		{"a.example.org", "/x/../api", ambiguous}, {"a.example.org", "/x/%2e%2e/api", ambiguous}, {"a.example.org",
			"/x/.%2E/api", ambiguous}, {"a.example.org", "/x/..", ambiguous}, {"a.example.org", "/./x", ambiguous},
		{"a.example.org", "/x%2f..%2fapi", ambiguous}, {"a.example.org", "/x/..;a=b/api", ambiguous},
		{"a.example.org", "/x\\..\\api", ambiguous}, {"a.example.org", "/x%5c..%5capi", ambiguous},
		{"a.example.org", "//api", ambiguous}, {"a.example.org", "/x//y", "*.example.org/"}, {"a.example.org",
			"/api//v1", ambiguous}, {"a.example.org", "/api;a/v1", ambiguous}, {"a.example.org", "/x;a=b",
			"*.example.org/"},
		{"a.example.org", "/%61pi", "a.example.org/api"}, {"a.example.org", "/...", "*.example.org/"},
		{"a.example.org", "/.well-known/x", "*.example.org/"},
		{"a.example.org", "/api/.hidden", "a.example.org/api"},
		{"a.example.org", "/api/v1/..x", "a.example.org/api/v1/"}, {"a.example.org", "/x%252f..%252fapi",
			"*.example.org/"}, {"a.example.org", "/\\api", ambiguous}, {"a.example.org", "/api%00", "*.example.org/"},
	} {
		u, err := url.ParseRequestURI(c[1])
		check(t, err)
		h, err := r.find(keysource.Name(c[0]), u)
		got := ""
		if errors.Is(err, errPath) {
			got = ambiguous
		} else if h != nil {
			got = string(h.(place))
		}
		if got != c[2] {
			t.Errorf("%s%s: %q, not %q", c[0], c[1], got, c[2])
		}
	}
	var none router
	none.add("only.example", "/x", place("x"))
	if h, err := none.find("only.example", &url.URL{Path: "/y"}); h != nil || err != nil {
		t.Errorf("%v, %v where no route matches", h, err)
	}
}

// Whatever a path is, its strictest reader and one that resolves it in the usual way come to the
// same route.
func FuzzNoPathLeadsElsewhereThanItWasRouted(f *testing.F) {
	var r router
	r.add("*", "/", place("/"))
	r.add("*", "/admin", place("/admin"))
	for _, s := range []string{"/a/../admin", "/%2e%2e/admin", "//admin", "/admin%2f", "/a;/..;/admin",
		"/a\\..\\admin", "/a%2f%2e%2e%2fadmin"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.ParseRequestURI(s)
		if err != nil || u.Opaque != "" || u.Path == "" || u.Path[0] != '/' {
			return
		}
		h, err := r.find("x.example", u)
		if err != nil {
			return
		}
		decoded := u.Path
		// decoded once more on the way
		resolved, err := url.ParseRequestURI((&url.URL{Path: decoded}).EscapedPath())
		if err != nil {
			return
		}
		clean := resolved.JoinPath().Path // dot segments and double slashes resolved
		want := "/"
		if clean == "/admin" || len(clean) > 6 && clean[:7] == "/admin/" {
			want = "/admin"
		}
		if string(h.(place)) != want {
			t.Errorf("%q goes to %s, and is %q to its upstream", s, h, clean)
		}
	})
}
