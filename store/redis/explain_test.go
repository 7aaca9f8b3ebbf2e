package redis

import "testing"

// answer is an error that Redis answers with.
type answer string

func (a answer) Error() string { return string(a) }

func (answer) RedisError() {}

func TestAServerIsNoSentinelWhateverItsVersion(t *testing.T) {
	for _, a := range []answer{
		"ERR unknown command 'sentinel', with args beginning with: 'get-master-addr-by-name' 'm' ",
		"ERR unknown command 'SENTINEL', with args beginning with: 'sentinels' 'm' ",
		"ERR unknown command `sentinel`, with args beginning with: `get-master-addr-by-name`, `m`, ",
	} {
		if passes, advice, found := refusal(a); passes || !found || advice != asServer {
			t.Errorf("%s: %q", a, advice)
		}
	}
	if _, advice, _ := refusal(answer("ERR unknown command `EVALSHA`, with args")); advice == asServer {
		t.Errorf("a command that was switched off: %q", advice)
	}
}
