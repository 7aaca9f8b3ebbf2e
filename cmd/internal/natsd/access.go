package natsd

import (
	"crypto/sha256"
	"crypto/subtle"

	"github.com/nats-io/nats-server/v2/server"
)

// ownInbox begins the subjects on which lockstepd's own connections get answers. No client may
// listen there.
const ownInbox = "_LOCKSTEP"

// clientInbox begins those of clients, by NATS custom.
const clientInbox = "_INBOX"

// ownTokens authenticate lockstepd's own connections. They are random, and never leave the process.
type ownTokens struct{ bus, service string }

// authenticator maps a token to what its holder may do.
type authenticator struct {
	own    ownTokens
	client string // client is empty if there are no clients.
}

// Check implements [server.Authentication].
func (a authenticator) Check(c server.ClientAuthentication) bool {
	token := c.GetOpts().Token
	switch {
	case same(token, a.own.bus):
		c.RegisterUser(&server.User{Username: "lockstepd"})
	case same(token, a.own.service):
		c.RegisterUser(&server.User{Username: "lockstepd-rotate", Permissions: servicePermissions()})
	case same(token, a.client):
		c.RegisterUser(&server.User{Username: "client", Permissions: clientPermissions()})
	default:
		return false
	}
	return true
}

// same compares in constant time, whatever the lengths. It is false for an empty token.
func same(given, want string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && want != ""
}

// clientPermissions let a client ask for a rotation, follow the events, and find the service as
// `nats micro` does.
func clientPermissions() *server.Permissions {
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			"lockstep.rotate.*",
			"$SRV.PING", "$SRV.PING.>", "$SRV.INFO", "$SRV.INFO.>", "$SRV.STATS", "$SRV.STATS.>",
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{"lockstep.events.>", clientInbox + ".>"}},
	}
}

// servicePermissions let the service answer, and nothing else. A requester names the subject of the
// answer. So a connection that may publish anything would publish for a client what the client
// itself may not.
func servicePermissions() *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{clientInbox + ".>", ownInbox + ".>"}},
		Subscribe: &server.SubjectPermission{Allow: []string{"lockstep.rotate.*", "$SRV.>", ownInbox + ".>"}},
	}
}
