package lds

import (
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	xdsmatcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/lockstep-tls/lockstep/keysource"
)

// noChain is the name of no chain. A connection that is to take it is closed.
const noChain = "none"

// utf8Name is a regular expression of bytes, as Envoy's are. It matches UTF-8 (RFC 3629) that is
// not empty.
const utf8Name = `([\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|` +
	`[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|` +
	`\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2})+`

// matcher returns the encoded field filter_chain_matcher. It replaces the chains' own matches, and
// decides as they do by the server name: an exact name, then the longest wildcard, which covers
// any number of labels, then the on-demand chain. But a server name that is not UTF-8 takes no
// chain. Envoy would ask for its certificate, and no message could say that there is none. The
// client would wait for the connect timeout, and Envoy would keep the name, some 5 KB, until it is
// restarted. Envoy makes a change of the matcher in place, as of the chains.
//
// A client without a server name takes the chain of the address to which it connected, then the
// on-demand chain.
func matcher(hosts []keysource.Name) ([]byte, error) {
	var err error
	pack := func(m proto.Message) *anypb.Any {
		a := new(anypb.Any)
		if e := anypb.MarshalFrom(a, m, deterministic); e != nil {
			err = e
		}
		return a
	}
	sni := &xdscorev3.TypedExtensionConfig{Name: "sni", TypedConfig: pack(&networkv3.ServerNameInput{})}
	take := func(chain string) *xdsmatcherv3.Matcher_OnMatch {
		return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Action{
			Action: &xdscorev3.TypedExtensionConfig{Name: "chain", TypedConfig: pack(wrapperspb.String(chain))},
		}}
	}
	then := func(m *xdsmatcherv3.Matcher) *xdsmatcherv3.Matcher_OnMatch {
		return &xdsmatcherv3.Matcher_OnMatch{OnMatch: &xdsmatcherv3.Matcher_OnMatch_Matcher{Matcher: m}}
	}
	where := func(s *xdsmatcherv3.StringMatcher,
		to *xdsmatcherv3.Matcher_OnMatch) *xdsmatcherv3.Matcher_MatcherList_FieldMatcher {
		return &xdsmatcherv3.Matcher_MatcherList_FieldMatcher{OnMatch: to,
			Predicate: &xdsmatcherv3.Matcher_MatcherList_Predicate{
				MatchType: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
					SinglePredicate: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
						Input:   sni,
						Matcher: &xdsmatcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: s},
					},
				},
			}}
	}
	list := func(otherwise *xdsmatcherv3.Matcher_OnMatch,
		all ...*xdsmatcherv3.Matcher_MatcherList_FieldMatcher) *xdsmatcherv3.Matcher {
		return &xdsmatcherv3.Matcher{OnNoMatch: otherwise, MatcherType: &xdsmatcherv3.Matcher_MatcherList_{
			MatcherList: &xdsmatcherv3.Matcher_MatcherList{Matchers: all},
		}}
	}
	regex := func(r string) *xdsmatcherv3.StringMatcher {
		engine := &xdsmatcherv3.RegexMatcher_GoogleRe2{GoogleRe2: &xdsmatcherv3.RegexMatcher_GoogleRE2{}}
		return &xdsmatcherv3.StringMatcher{MatchPattern: &xdsmatcherv3.StringMatcher_SafeRegex{
			SafeRegex: &xdsmatcherv3.RegexMatcher{Regex: r, EngineType: engine},
		}}
	}

	tree := func(input *xdscorev3.TypedExtensionConfig, all map[string]*xdsmatcherv3.Matcher_OnMatch,
		otherwise *xdsmatcherv3.Matcher_OnMatch) *xdsmatcherv3.Matcher_OnMatch {
		return then(&xdsmatcherv3.Matcher{OnNoMatch: otherwise,
			MatcherType: &xdsmatcherv3.Matcher_MatcherTree_{MatcherTree: &xdsmatcherv3.Matcher_MatcherTree{
				Input: input, TreeType: &xdsmatcherv3.Matcher_MatcherTree_ExactMatchMap{
					ExactMatchMap: &xdsmatcherv3.Matcher_MatcherTree_MatchMap{Map: all},
				},
			}}})
	}

	exact, addresses := map[string]*xdsmatcherv3.Matcher_OnMatch{}, map[string]*xdsmatcherv3.Matcher_OnMatch{}
	var wild []string
	for _, h := range hosts {
		if h.IsSecond() {
			continue
		}
		if suffix, ok := strings.CutPrefix(string(h), "*"); ok {
			wild = append(wild, suffix)
		} else {
			exact[string(h)] = take(string(h))
		}
		if _, ok := h.Address(); ok {
			addresses[string(h)] = take(string(h))
		}
	}
	named := take(onDemandName)
	if len(wild) > 0 {
		slices.SortStableFunc(wild, func(a, b string) int { return len(b) - len(a) })
		var all []*xdsmatcherv3.Matcher_MatcherList_FieldMatcher
		for _, suffix := range wild {
			pattern := &xdsmatcherv3.StringMatcher_Suffix{Suffix: suffix}
			all = append(all, where(&xdsmatcherv3.StringMatcher{MatchPattern: pattern}, take("*"+suffix)))
		}
		named = then(list(named, all...))
	}
	if len(exact) > 0 {
		named = tree(sni, exact, named)
	}
	nameless := take(onDemandName)
	if len(addresses) > 0 {
		local := &xdscorev3.TypedExtensionConfig{Name: "address", TypedConfig: pack(&networkv3.DestinationIPInput{})}
		nameless = tree(local, addresses, nameless)
	}
	m := list(nameless, where(regex(utf8Name), named), where(regex("(?s).+"), take(noChain)))
	if err != nil {
		return nil, err
	}
	if err := m.ValidateAll(); err != nil {
		return nil, err
	}
	return deterministic.Marshal(&listenerv3.Listener{FilterChainMatcher: m})
}
