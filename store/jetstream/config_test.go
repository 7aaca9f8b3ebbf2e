package jetstream

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		url  string
		want Config
	}{
		{"nats://a", Config{Servers: []string{"nats://a:4222"}, Bucket: "lockstep", Replicas: 3}},
		{"tls://a:4223,b,[::1]:5/", Config{
			Servers: []string{"tls://a:4223", "tls://b:4222", "tls://[::1]:5"}, Bucket: "lockstep", Replicas: 3,
		}},
		{"nats://me%40x@a?password_file=/p&bucket=b-1&replicas=1",
			Config{Servers: []string{"nats://a:4222"}, User: "me@x", PasswordFile: "/p",
				Bucket: "b-1", Replicas: 1}},
		{"nats://a?creds=/c&tls_ca=/ca&tls_cert=/crt&tls_key=/key",
			Config{Servers: []string{"nats://a:4222"}, CredsFile: "/c", CAFile: "/ca",
				CertFile: "/crt", KeyFile: "/key", Bucket: "lockstep", Replicas: 3}},
		{"nats://a?nkey=/n", Config{
			Servers: []string{"nats://a:4222"}, NKeyFile: "/n", Bucket: "lockstep", Replicas: 3,
		}},
		{"nats://a?token_file=/t", Config{
			Servers: []string{"nats://a:4222"}, TokenFile: "/t", Bucket: "lockstep", Replicas: 3,
		}},
		{"nats://a?max_bytes=64MB&domain=hub&inbox_prefix=_INBOX_me.x&replicas=1", Config{
			Servers: []string{"nats://a:4222"}, Bucket: "lockstep", Replicas: 1,
			MaxBytes: 64 << 20, Domain: "hub", InboxPrefix: "_INBOX_me.x",
		}},
		{"nats://a?max_bytes=1gib", Config{
			Servers: []string{"nats://a:4222"}, Bucket: "lockstep", Replicas: 3, MaxBytes: 1 << 30,
		}},
		{"nats://a?max_bytes=5000000", Config{
			Servers: []string{"nats://a:4222"}, Bucket: "lockstep", Replicas: 3, MaxBytes: 5_000_000,
		}},
	} {
		got, err := ParseURL(c.url)
		got.Log = nil
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParseURL(%s) = %+v, %v, want %+v", c.url, got, err, c.want)
		}
	}
}

func TestParseURLRefusesWithTheReason(t *testing.T) {
	for url, reason := range map[string]string{
		"redis://a":                 "begins with nats://",
		"a:4222":                    "begins with nats://",
		"nats://":                   "host:port",
		"nats://a,":                 "host:port",
		"nats://a:0":                "host:port",
		"nats://a:b":                "host:port",
		"nats://::1":                "host:port",
		"nats://a/path":             "host:port",
		"nats://me:hunter2@a":       "password_file",
		"nats://:hunter2@a":         "password_file",
		"nats://a?password=hunter2": "password_file",
		"nats://a?token=hunter2":    "token_file",
		"nats://hunter2@a":          "go together", // to NATS, a token
		"nats://me@a,you@b":         "more than one user",
		"nats://a?password_file=/p": "go together",
		"nats://a?creds=/c&nkey=/n": "more than one",
		"nats://a?tls_cert=/c":      "go together",
		"nats://a?nkey=/n&nkey=/m":  "twice",
		"nats://a?hunter=2":         "none of",
		"nats://a?bucket=a.b":       "bucket",
		"nats://a?replicas=x":       "not a number",
		"nats://a?max_bytes=":       "such as 64MB",
		"nats://a?max_bytes=x":      "such as 64MB",
		"nats://a?max_bytes=64XB":   "such as 64MB",
		"nats://a?max_bytes=-1":     "such as 64MB",
		"nats://a?max_bytes=0":      "such as 64MB",
		"nats://a?max_bytes=9e9":    "such as 64MB",
		"nats://a?max_bytes=1KB":    "1MB at least",
		"nats://a?max_bytes=64MBB":  "such as 64MB",
		"nats://a?domain=a.b":       "domain",
		"nats://a?domain=":          "leave it out",
		"nats://a?inbox_prefix=":    "leave it out",
		"nats://a?inbox_prefix=a.":  "ends in .>",
		"nats://a?inbox_prefix=a.>": "ends in .>",
		"nats://a?inbox_prefix=*":   "ends in .>",

		"nats://a?max_bytes=99999999999TB":           "such as 64MB",
		"nats://a?replicas=6":                        "from 1 to 5",
		"nats://a?bucket=" + strings.Repeat("a", 65): "64 at most",
	} {
		if _, err := ParseURL(url); err == nil || !strings.Contains(err.Error(), reason) ||
			strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseURL(%s) = %v, want a word of %q, and no secret", url, err, reason)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("nats://me@a:1,[::1]?password_file=/p&replicas=1")
	f.Add("nats://a?max_bytes=64MB&domain=hub&inbox_prefix=_INBOX_me")
	f.Fuzz(func(t *testing.T, url string) {
		if c, err := ParseURL(url); err == nil && (len(c.Servers) == 0 || c.Bucket == "" || c.Replicas < 1) {
			t.Errorf("ParseURL(%q) = %+v", url, c)
		}
	})
}

func FuzzEveryKeyIsFoundUnderItsSubject(f *testing.F) {
	f.Add("cert/=2A.example")
	f.Add("a//")
	f.Fuzz(func(t *testing.T, key string) {
		s := &Store{prefix: "p."}
		subject, err := s.subject(key)
		if err != nil {
			return
		}
		if back, ok := s.key(subject); !ok || back != key || strings.Contains(subject+".", "..") {
			t.Errorf("the subject of %q is %q, which is that of %q", key, subject, back)
		}
	})
}
