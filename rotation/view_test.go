package rotation

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
)

// No type that a View is made of can hold a key, so none can be shown by accident.
func TestAViewHoldsNoKeyBytes(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(path string, of reflect.Type)
	walk = func(path string, of reflect.Type) {
		if of == reflect.TypeFor[keysource.TicketKey]() || of == reflect.TypeFor[keysource.Ring]() {
			t.Errorf("%s is a %s", path, of)
		}
		if seen[of] {
			return
		}
		seen[of] = true
		switch of.Kind() {
		case reflect.Slice, reflect.Array:
			if of.Elem().Kind() == reflect.Uint8 {
				t.Errorf("%s holds bytes", path)
			}
			walk(path+"[]", of.Elem())
		case reflect.Map, reflect.Pointer:
			walk(path+"[]", of.Elem())
		case reflect.Interface, reflect.Func:
			t.Errorf("%s may hold anything", path)
		case reflect.Struct:
			for f := range of.Fields() {
				if of.PkgPath() != "time" {
					walk(path+"."+f.Name, f.Type)
				}
			}
		}
	}
	walk("View", reflect.TypeFor[View]())
	if !seen[reflect.TypeFor[KeyView]()] {
		t.Error("the keys were not looked at")
	}
}

func TestAViewShowsTheLifeOfEachKey(t *testing.T) {
	l := newLab(t)
	l.rotate()
	l.ask()
	l.next("distributing")
	v := l.r.View(l.p, l.tally(), l.now)
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, k := range v.Keys {
		secret := l.r.Keys[i].Key
		if k.ID != secret.ID() || strings.Contains(string(b), string(secret[16:])) {
			t.Errorf("key %d is shown as %+v", i, k)
		}
		got = append(got, fmt.Sprintf("used %v encrypts %v retires %v",
			!k.FirstUsed.IsZero(), k.MayEncrypt, !k.RetiresAt.IsZero()))
	}
	if want := "used true encrypts true retires false, used true encrypts false retires true, " +
		"used false encrypts false retires false"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q", strings.Join(got, ", "), want)
	}
	if v.Version != l.r.Ring().Version() || !v.Underway || v.Asked != (l.r.Wanted != nil) || len(v.BlockedBy) != 3 {
		t.Errorf("%+v", v)
	}
}

// Twenty reasons are enough, and which ones they are does not depend on how many there are.
func TestTheFirstReasonsByNameAreShown(t *testing.T) {
	l := newLab(t)
	for i := range 40 {
		name := fmt.Sprintf("node-%d", i)
		l.members[name] = &Member{Node: name, Nr: 1, Floor: 1, Answered: true, Connected: true, Since: epoch}
	}
	l.ask()
	l.next("distributing")
	why := l.r.View(l.p, l.tally(), l.now).BlockedBy
	if len(why) != 21 || why[20] != "and 23 more" {
		t.Fatalf("%d reasons, the last is %q", len(why), why[len(why)-1])
	}
	for i, want := range []string{"a: ", "b: ", "c: ", "node-0: ", "node-10: ", "node-11: "} {
		if !strings.HasPrefix(why[i], want) {
			t.Errorf("reason %d is %q, want one of %q", i, why[i], want)
		}
	}
}
