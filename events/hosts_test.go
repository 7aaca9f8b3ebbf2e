package events

import (
	"fmt"
	"testing"
)

func TestHostsHaveTheirNamesAndNoOthers(t *testing.T) {
	name := func(i int) string { return fmt.Sprintf("host-%d.example", i) }
	var even, odd []string
	for i := range 2000 {
		if i%2 == 0 {
			even = append(even, name(i))
		} else {
			odd = append(odd, name(i))
		}
	}
	a, b := HostsOf(even...), HostsOf(append(odd, even[:10]...)...)
	for i := range 2000 {
		if a.Has(name(i)) != (i%2 == 0) || b.Has(name(i)) != (i%2 == 1 || i < 20) {
			t.Fatalf("%s: %v %v", name(i), a.Has(name(i)), b.Has(name(i)))
		}
		if !a.And(b).Has(name(i)) || !a.And("").Has(even[0]) || !Hosts("").And(a).Has(even[0]) {
			t.Fatalf("both lack %s", name(i))
		}
	}
	if n := len(a.And(b)); n != 2000*hostChars {
		t.Errorf("%d characters", n)
	}
	if Hosts("").Has("a") || HostsOf[string]().Has("a") {
		t.Error("no hosts have a name")
	}
	many := make([]string, maxHosts+10)
	for i := range many {
		many[i] = name(i)
	}
	if h := HostsOf(many...); len(h) != maxHosts*hostChars || len(h.And(HostsOf("another"))) != len(h) {
		t.Errorf("%d characters", len(h))
	}
}
