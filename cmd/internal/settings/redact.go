package settings

import (
	"net/url"
	"strings"
)

// Redact returns a setting without the passwords and tokens of its URLs, of which there may be
// several with commas. It shows nothing of a URL that cannot be read. Any other text stays.
func Redact(s string) string {
	if !strings.Contains(s, "@") || !strings.Contains(s, "://") {
		return s
	}
	all := strings.Split(s, ",")
	for i, one := range all {
		if !strings.Contains(one, "@") {
			continue
		}
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.User == nil {
			return "a URL that cannot be read"
		}
		_, secret := u.User.Password()
		if !secret && (u.Scheme == "nats" || u.Scheme == "tls") {
			u.User = url.User("xxxxx") // NATS takes a user without a password for a token
		}
		all[i] = u.Redacted()
	}
	return strings.Join(all, ",")
}
