package problems

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/api"
	"github.com/lockstep-tls/lockstep/identity/enforce"
	"github.com/lockstep-tls/lockstep/identity/transport"
	"github.com/lockstep-tls/lockstep/store"
)

// constants are the codes, in the order in which register.go declares them.
func constants(t *testing.T) (all []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "register.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	g := f.Decls[1].(*ast.GenDecl) // behind the imports
	for _, s := range g.Specs {
		code, err := strconv.Unquote(s.(*ast.ValueSpec).Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, code)
	}
	return all
}

func TestEveryCodeIsInTheRegisterOnceAndSaysWhatToDoAndWhoAlerts(t *testing.T) {
	codes := constants(t)
	if len(codes) != len(Register) || len(codes) < 30 {
		t.Fatalf("%d codes, %d in the register", len(codes), len(Register))
	}
	seen := map[string]bool{}
	for i, k := range Register {
		if k.Code != codes[i] || seen[k.Code] {
			t.Errorf("%q stands where %q should, or twice", k.Code, codes[i])
		}
		seen[k.Code] = true
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(k.Code) {
			t.Errorf("%q is no code", k.Code)
		}
		if k.Next == "" || (k.Alert == "") != (k.Severity == api.Notice) {
			t.Errorf("%s: no next step, or no alert, or one of a notice", k.Code)
		}
		if k.Severity == "" {
			t.Errorf("%s: no severity", k.Code)
		}
	}
}

func TestTheMostSevereComesFirstAndANoticeDegradesNothing(t *testing.T) {
	all := []api.Problem{
		New(EventsDown, "", "c"), New(StoreDown, "b", "b"), New(StoreDown, "a", "a"),
		{Code: "new", Severity: api.Notice, Text: "d"},
		{Code: "newer", Severity: api.Critical, Text: "last of its kind"},
	}
	Sort(all)
	var got string
	for _, p := range all {
		got += p.Text + " "
	}
	if got != "a b last of its kind c d " {
		t.Error(got)
	}
	d := Degraded(all)
	if len(d) != 4 || d[0] != "a (repair the store; lockstepd goes on by itself)" || d[2] != "last of its kind" {
		t.Errorf("%q", d)
	}
}

func TestAnErrorHasItsCodeAndWhatToType(t *testing.T) {
	p := Of("", fmt.Errorf("%w: line 3", enforce.ErrUnusable))
	if p.Code != PolicyUnusable || p.Text != enforce.ErrUnusable.Error()+": line 3" || p.Next == "" {
		t.Errorf("%+v", p)
	}
	p = As(AuditSinkDown, "store", fmt.Errorf("no line: %w", store.ErrFrozen))
	if p.Next != "lockstep store thaw ends it" || p.Where != "store" {
		t.Errorf("%+v", p)
	}
	if p = Of("", dated{errors.New("since then"), time.Unix(7, 0)}); !p.Since.Equal(time.Unix(7, 0)) {
		t.Errorf("%+v", p)
	}
}

func TestAnErrorThatNamesItsPlaceIsNotThatOfAnotherPlace(t *testing.T) {
	err := fmt.Errorf("soon: %w", placed{transport.ErrNearEnd})
	if p := Of("", err); p.Where != "ca.pem" || p.Code != OwnNearEnd {
		t.Errorf("%+v", p)
	}
	if p := Of("here", err); p.Where != "here" {
		t.Errorf("the caller named another place: %+v", p)
	}
}

type placed struct{ error }

func (placed) Where() string   { return "ca.pem" }
func (p placed) Unwrap() error { return p.error }

type dated struct {
	error
	at time.Time
}

func (d dated) Since() time.Time { return d.at }

func TestAProblemStandsSinceItWasSeenFirstAndBeginsAnewAfterItsEnd(t *testing.T) {
	var m Memory
	start := time.Unix(1000, 0)
	see := func(at time.Duration, code, where string) time.Duration {
		all := []api.Problem{New(code, where, "")}
		m.Date(all, start.Add(at))
		return all[0].Since.Sub(start)
	}
	for _, step := range []struct {
		at    time.Duration
		where string
		since time.Duration
	}{
		{0, "a", 0},
		{50 * time.Second, "a", 0},
		{50 * time.Second, "b", 50 * time.Second},
		{100 * time.Second, "a", 0},
		{161 * time.Second, "a", 161 * time.Second},
	} {
		if got := see(step.at, StoreDown, step.where); got != step.since {
			t.Errorf("after %s %s stands since %s, want %s", step.at, step.where, got, step.since)
		}
	}
	known := []api.Problem{{Code: StoreDown, Where: "a", Since: start}}
	if m.Date(known, start.Add(time.Hour)); !known[0].Since.Equal(start) {
		t.Error("what the source knew was replaced")
	}
}

func TestTheMemoryIsBounded(t *testing.T) {
	var m Memory
	for i := range 3 * maxRemembered {
		m.Date([]api.Problem{New(StoreDown, strconv.Itoa(i), "")}, time.Unix(1000, 0))
	}
	if len(m.since) != maxRemembered {
		t.Errorf("%d are remembered", len(m.since))
	}
}
