package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
)

const token = "s3cret-token"

// fake is a lockstepd whose answers are files: answers/GET/v1/status for GET /v1/status. Where
// there is a folder, its files 1, 2, ... are answers in turn; the last stays. A file that holds
// "down 300ms" takes the server away for so long, and "hang" is never answered. Each other file
// must be of the API's type, or an error. Requests are written down in the file requests, one a
// line.
type fake struct {
	dir  string
	addr string

	mu     sync.Mutex
	turns  map[string]int
	server *http.Server
	gone   bool
}

func startFake(dir string) (*fake, error) {
	f := &fake{dir: dir, addr: "127.0.0.1:0", turns: map[string]int{}}
	return f, f.start()
}

func (f *fake) start() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return nil
	}
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		return err
	}
	f.addr = l.Addr().String()
	f.server = &http.Server{Handler: http.HandlerFunc(f.serve)}
	go f.server.Serve(l)
	return nil
}

func (f *fake) url() string { return "http://" + f.addr }

func (f *fake) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = true
	f.server.Close()
}

// types says what each answer is made of.
var types = []struct {
	path *regexp.Regexp
	make func() any
}{
	{regexp.MustCompile(`^GET/v1/status$`), func() any { return new(api.Status) }},
	{regexp.MustCompile(`^GET/v1/journal(\?.*)?$`), func() any { return new(api.Events) }},
	{regexp.MustCompile(`^GET/v1/nodes(\?.*)?$`), func() any { return new(api.Nodes) }},
	{regexp.MustCompile(`^DELETE/v1/nodes/[^/]+$`), func() any { return new(struct{}) }},
	{regexp.MustCompile(`^GET/v1/scopes/[^/]+/rotations/\d+$`), func() any { return new(api.Rotation) }},
	{regexp.MustCompile(`^GET/v1/scopes/[^/]+/history$`), func() any { return new(api.History) }},
	{regexp.MustCompile(`^GET/v1/scopes/[^/]+/plan$`), func() any { return new(api.Plan) }},
	{regexp.MustCompile(`^POST/v1/scopes/[^/]+/(rotate|burn|rollback)$`), func() any { return new(api.Started) }},
	{regexp.MustCompile(`^POST/v1/scopes/[^/]+/exclude$`), func() any { return new(struct{}) }},
	{regexp.MustCompile(`^POST/v1/problems/[^/]+/ack$`), func() any { return new(struct{}) }},
	{regexp.MustCompile(`^GET/v1/certs(\?.*)?$`), func() any { return new(api.Certs) }},
	{regexp.MustCompile(`^(GET|PUT)/v1/certs/[^/]+$`), func() any { return new(api.Cert) }},
	{regexp.MustCompile(`^GET/v1/hosts$`), func() any { return new(api.Hosts) }},
	{regexp.MustCompile(`^(PUT|DELETE)/v1/hosts/[^/]+$`), func() any { return new(api.Host) }},
	{regexp.MustCompile(`^DELETE/v1/certs/[^/]+$`), func() any { return new(struct{}) }},
	{regexp.MustCompile(`^GET/v1/audit$`), func() any { return new(api.Audit) }},
	{regexp.MustCompile(`^(GET|POST)/v1/audit/verify$`), func() any { return new(api.AuditReports) }},
	{regexp.MustCompile(`^POST/v1/audit/mend$`), func() any { return new(api.AuditMended) }},
	{regexp.MustCompile(`^(GET/v1/kek|POST/v1/kek/rotate)$`), func() any { return new(api.KEK) }},
	{regexp.MustCompile(`^POST/v1/kek/retire$`), func() any { return new(api.KEKRetired) }},
	{regexp.MustCompile(`^POST/v1/store/thaw$`), func() any { return new(api.Thawed) }},
	{regexp.MustCompile(`^POST/v1/certs/import$`), func() any { return new(api.Imported) }},
	{regexp.MustCompile(`^GET/v1/grants$`), func() any { return new(api.Grants) }},
	{regexp.MustCompile(`^GET/v1/explain$`), func() any { return new(api.Explanation) }},
	{regexp.MustCompile(`^GET/v1/audit/items/[0-9a-f]+$`), func() any { return new(api.AuditItems) }},
	{regexp.MustCompile(`^POST/v1/certs/confirm-loss$`), func() any { return new(api.Losses) }},
	{regexp.MustCompile(`^GET/v1/tokens$`), func() any { return new(api.Tokens) }},
	{regexp.MustCompile(`^POST/v1/tokens$`), func() any { return new(api.TokenMade) }},
	{regexp.MustCompile(`^DELETE/v1/tokens/[^/]+$`), func() any { return new(struct{}) }},
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	what := r.Method + r.URL.Path
	body, _ := io.ReadAll(r.Body)
	f.log(what, body)
	if r.Header.Get("Authorization") != "Bearer "+token {
		refuse(w, &api.Error{Message: "the admin token is wrong", Code: api.Denied})
		return
	}
	b, err := f.answer(what)
	if down, ok := strings.CutPrefix(string(b), "down "); ok {
		f.down(strings.TrimSpace(down))
		panic(http.ErrAbortHandler)
	}
	switch {
	case string(b) == "hang\n":
		<-r.Context().Done()
		return
	case errors.Is(err, os.ErrNotExist):
		refuse(w, &api.Error{Message: fmt.Sprintf("nothing at %s", what), Code: api.NotFound})
		return
	case err != nil:
		refuse(w, &api.Error{Message: err.Error(), Code: api.Failed})
		return
	case what == "GET/v1/events":
		w.Write(b)
		return
	}
	var e api.Error
	if strict(b, &e) == nil && e.Message != "" {
		refuse(w, &e)
		return
	}
	for _, t := range types {
		if t.path.MatchString(what) {
			v := t.make()
			if err := strict(b, v); err != nil {
				refuse(w, &api.Error{
					Message: fmt.Sprintf("the script's answer to %s: %v", what, err), Code: api.Failed,
				})
				return
			}
			json.NewEncoder(w).Encode(v)
			return
		}
	}
	refuse(w, &api.Error{Message: "the fake knows no " + what, Code: api.Failed})
}

func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(v)
}

func refuse(w http.ResponseWriter, e *api.Error) {
	w.WriteHeader(map[api.Code]int{
		api.NotFound: 404, api.Refused: 409, api.Denied: 403, api.Usage: 400, api.Failed: 500,
	}[e.Code])
	json.NewEncoder(w).Encode(e)
}

func (f *fake) answer(what string) ([]byte, error) {
	path := filepath.Join(f.dir, "answers", filepath.FromSlash(what))
	if fi, err := os.Stat(path); err != nil || !fi.IsDir() || what == "GET/v1/certs" {
		if what == "GET/v1/certs" { // a folder too, of single ones
			path += "-all"
		}
		return os.ReadFile(path)
	}
	f.mu.Lock()
	f.turns[what]++
	n := f.turns[what]
	f.mu.Unlock()
	for ; n > 1; n-- {
		if b, err := os.ReadFile(filepath.Join(path, strconv.Itoa(n))); err == nil {
			return b, nil
		}
	}
	return os.ReadFile(filepath.Join(path, "1"))
}

// down stops the server and starts it again at the same address.
func (f *fake) down(words string) {
	d, err := time.ParseDuration(words)
	if err != nil {
		panic(err)
	}
	go func() {
		f.mu.Lock()
		old := f.server
		f.mu.Unlock()
		old.Close()
		time.Sleep(d)
		if err := f.start(); err != nil {
			panic(err)
		}
	}()
}

func (f *fake) log(what string, body []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l, err := os.OpenFile(filepath.Join(f.dir, "requests"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer l.Close()
	fmt.Fprintf(l, "%s %s\n", what, body)
}
