package identity

import "fmt"

// Role is what somebody may do at the admin API. A higher one includes those below it.
type Role int

// These are the roles, the lowest first.
const (
	NoRole  Role = iota
	Read         // Read sees everything that is no secret.
	Operate      // Operate rotates keys, and puts and removes certificates and pins.
	Admin        // Admin does everything, and can get at secrets, by a backup for example.
)

var roleNames = []string{"none", "read", "operate", "admin"}

// String returns none, read, operate or admin.
func (r Role) String() string { return roleNames[r] }

// ParseRole reads read, operate or admin.
func ParseRole(s string) (Role, error) {
	for r := Read; r <= Admin; r++ {
		if r.String() == s {
			return r, nil
		}
	}
	return NoRole, fmt.Errorf("%q is no role: it is read, operate or admin", s)
}
