package identity

import (
	"slices"
	"strings"
)

// index finds the rules whose pattern matches a name, at a cost that does not grow with the rules
// that do not.
type index struct {
	patterns     []pattern // by rule
	everybody    []int32
	exact        map[string][]int32
	heads, tails affixes
}

// affixes are rules by what a name must begin, or end, with.
type affixes struct {
	rules   map[string][]int32
	lengths []int // that occur in rules
}

func newIndex(patterns []pattern) index {
	x := index{patterns: patterns, exact: map[string][]int32{}, heads: newAffixes(), tails: newAffixes()}
	for i, p := range patterns {
		switch nr := int32(i); {
		case p.kind == anyKind:
			x.everybody = append(x.everybody, nr)
		case !p.star:
			x.exact[p.head] = append(x.exact[p.head], nr)
		case p.head != "":
			x.heads.add(p.head, nr)
		default:
			x.tails.add(p.tail, nr)
		}
	}
	return x
}

// of lists the rules that match any name of an identity, in order.
func (x index) of(identity string) []int32 {
	found := slices.Clone(x.everybody)
	for name := range strings.FieldsSeq(identity) {
		found = append(found, x.exact[name]...)
		for _, n := range x.heads.lengths {
			if n <= len(name) {
				found = x.matching(found, x.heads.rules[name[:n]], name)
			}
		}
		for _, n := range x.tails.lengths {
			if n <= len(name) {
				found = x.matching(found, x.tails.rules[name[len(name)-n:]], name)
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

func (x index) matching(found, rules []int32, name string) []int32 {
	for _, nr := range rules {
		if x.patterns[nr].matches(name) {
			found = append(found, nr)
		}
	}
	return found
}

func newAffixes() affixes { return affixes{rules: map[string][]int32{}} }

func (a *affixes) add(affix string, nr int32) {
	if a.rules[affix] == nil {
		if i, found := slices.BinarySearch(a.lengths, len(affix)); !found {
			a.lengths = slices.Insert(a.lengths, i, len(affix))
		}
	}
	a.rules[affix] = append(a.rules[affix], nr)
}
