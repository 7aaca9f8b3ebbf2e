package settings

import (
	"net/url"
	"strings"
)

const unreadable = "a URL that cannot be read"

// RedactURL is [Redact] for what should be a URL. It shows nothing of one that lacks its scheme and
// may have a password.
func RedactURL(s string) string {
	if strings.Contains(s, "@") && !strings.Contains(s, "://") {
		return unreadable
	}
	return Redact(s)
}

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
		if err != nil || u.User == nil || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
			return unreadable
		}
		_, secret := u.User.Password()
		if !secret && (u.Scheme == "nats" || u.Scheme == "tls") {
			u.User = url.User("xxxxx") // NATS takes a user without a password for a token
		}
		all[i] = u.Redacted()
	}
	return strings.Join(all, ",")
}
