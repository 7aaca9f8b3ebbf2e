package rotation_test

import (
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/keysource"
	"github.com/lockstep-tls/lockstep/rotation"
)

// A rotation goes on each time that the last node has accepted the ring.
func ExampleRollout_Next() {
	now, policy := time.Now(), rotation.DefaultPolicy()
	node := rotation.Member{Node: "edge-1", Nr: 1, Floor: 1, Answered: true, Connected: true, Since: now}

	r, _ := rotation.Rollout{Scope: "default"}.Next(policy, rotation.Tally{}, now, keysource.NewTicketKey)
	r, _, err := r.Ask(rotation.Request{By: "ops", Why: "an example", At: now}, policy, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	for changed := true; changed; {
		seen := rotation.Tally{Members: []rotation.Member{node}}
		if r, changed = r.Next(policy, seen, now, keysource.NewTicketKey); changed {
			fmt.Printf("g%d: %s with %d keys\n", r.Generation, r.Phase, len(r.Keys))
			node.Floor = r.Generation // it accepts the ring
		}
	}
	// Output:
	// g2: distributing with 2 keys
	// g3: promoting with 2 keys
	// g3: steady with 2 keys
}
