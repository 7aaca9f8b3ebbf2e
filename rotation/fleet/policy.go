package fleet

import "github.com/lockstep-tls/lockstep/rotation"

// SetPolicy puts another policy in the place of the scope's in [Config].Scopes. It must have been
// checked. The error is that of [Coordinator.Status].
//
// Nothing is changed by SetPolicy itself: the scope looks at the store soon, and decides by the new
// policy then. A decision that is under way ends by the policy with which it began, and is as good
// as one that was made a moment before. So no decision ever sees two policies.
//
// No live ticket is refused for it (P1). What a new key waits for does not depend on the policy,
// but for the lease: a member counts for as long as the policy says that is in force when the
// decision is made. And what is promised for a ticket that is out does not change with
// ticket_lifetime, since the record keeps that for each key (package rotation, noteLifetimes). A
// longer one reaches nodes when the record has it, however long the store is away
// ([Coordinator.TicketLifetime]). A shorter one reaches them at once.
func (c *Coordinator) SetPolicy(scope string, p rotation.Policy) error {
	s, err := c.find(scope)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.policy = p.After(s.policy)
	shorter := p.TicketLifetime < s.told
	if shorter {
		s.told = p.TicketLifetime
	}
	s.mu.Unlock()
	if shorter && s.cfg.Lifetime != nil {
		s.cfg.Lifetime(scope)
	}
	s.lookSoon()
	return nil
}

func (s *scope) policyNow() rotation.Policy {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.policy
}
