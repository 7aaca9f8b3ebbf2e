package edgeproxy

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"

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
		if !keepPath(u, c[1]) {
			t.Errorf("%s cannot be kept", c[1])
		}
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

func TestPathsArriveAsTheyWereWrittenOrNotAtAll(t *testing.T) {
	t.Parallel()
	arrives := []string{
		"/", "/p/a%2Fb%7e", "/p/a%2Fb%7e|{c}^", "/p/a%2Fb/\xc3\xa4", "/p/a%2Fb\"x", "/p/`a%2Fb", "/p/a%2fb[1]<x>",
		"/p/\xff\x80", "/p/%C3%A4/\xc3\xa4", "/p/a|b?c|d=%2f\"&e=\xc3\xa4", "/p/a^?", "/p/a?", "/p?x?y#z",
		"//p//a%2Fb",
		"/p/%7E~!$&'()*+,;=:@", "/p/%41%2e.x/{}", "/p/%00|", "/p\\a|b", "/p/a%5cb", "/p/%25%32%66|",
	}
	refused := []string{"/p/a#b", "/p#", "//p/a|b", "/p|/../q", "/p/%2e%2E/|", "/x|\\..\\q", "/p|%2f..%2fq", "/%zz|"}
	only := map[string][]string{
		// The target may be a whole URL, in HTTP/1.1 alone.
		"http/1.1": {"https://shop.example/p/a%2Fb|c?d", "https:/p/a%2Fb|c"},
	}
	for _, scheme := range []string{"http", "h2c"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			r := to(t, nil, origin(t, scheme, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Got", r.RequestURI)
			}))
			get := func(proto, target string) (status, got string) {
				if proto == "h2" {
					f := r.raw()
					defer f.conn.Close()
					f.request(1, true, ":path", target)
					switch v := f.await(func(fr http2.Frame) bool {
						_, reset := fr.(*http2.RSTStreamFrame)
						_, head := fr.(*http2.MetaHeadersFrame)
						return head || reset
					}).(type) {
					case *http2.MetaHeadersFrame:
						for _, h := range v.RegularFields() {
							if h.Name == "x-got" {
								got = h.Value
							}
						}
						return v.PseudoValue("status"), got
					}
					return "400", ""
				}
				c := r.dial(shop, proto)
				defer c.Close()
				fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", target, shop)
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				check(t, err)
				resp.Body.Close()
				return strconv.Itoa(resp.StatusCode), resp.Header.Get("X-Got")
			}
			for _, proto := range protos {
				for _, target := range append(arrives, only[proto]...) {
					want := target
					if i := strings.Index(target, "/p"); target[0] != '/' {
						want = target[i:]
					}
					if status, got := get(proto, target); status != "200" || got != want {
						t.Errorf("%s %q: %s, and %q arrives", proto, target, status, got)
					}
				}
				for _, target := range refused {
					if status, got := get(proto, target); status != "400" {
						t.Errorf("%s %q: %s, and %q arrives", proto, target, status, got)
					}
				}
			}
			if status, got := get("h2", "/p/a b"); status != "400" {
				t.Errorf("a space in a path of HTTP/2: %s, and %q arrives", status, got)
			}
		})
	}
}

// Whatever a path is, its strictest reader and one that resolves it in the usual way come to the
// same route.
func FuzzNoPathLeadsElsewhereThanItWasRouted(f *testing.F) {
	var r router
	r.add("*", "/", place("/"))
	r.add("*", "/admin", place("/admin"))
	for _, s := range []string{"/a/../admin", "/%2e%2e/admin", "//admin", "/admin%2f", "/a;/..;/admin",
		"/a\\..\\admin", "/a%2f%2e%2e%2fadmin", "/a|/b%2fc", "/admin|", "/a#b", "http://x.example/admin|"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := url.ParseRequestURI(s)
		if err != nil || u.Opaque != "" || u.Path == "" || u.Path[0] != '/' {
			return
		}
		if !keepPath(u, s) {
			return
		}
		if sent, _, _ := strings.Cut(u.RequestURI(), "?"); s[0] == '/' && sent != strings.SplitN(s, "?", 2)[0] {
			t.Errorf("%q is sent as %q", s, sent)
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
