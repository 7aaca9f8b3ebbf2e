package redis

import (
	"reflect"
	"strings"
	"testing"
)

func TestURLs(t *testing.T) {
	for _, c := range []struct {
		url  string
		want Config
	}{
		{"redis://r", Config{Servers: []string{"r:6379"}}},
		{"redis://r:1/3?wait=1", Config{Servers: []string{"r:1"}, DB: 3}},
		{"rediss://[::1]?wait=0", Config{Servers: []string{"[::1]:6379"}, TLS: true, NoWait: true}},
		{"redis://o%40x@r?password_file=/p&tls_ca=/ca&tls_cert=/c&tls_key=/k&prefix=a:b",
			Config{
				Servers: []string{"r:6379"}, User: "o@x", PasswordFile: "/p", TLS: true, CAFile: "/ca",
				CertFile: "/c", KeyFile: "/k", Prefix: "a:b",
			}},
		{"redis+sentinel://u@a,b:1,c/mymaster?password_file=/p&sentinel_user=s&sentinel_password_file=/sp",
			Config{
				Servers: []string{"a:26379", "b:1", "c:26379"}, Master: "mymaster", User: "u", PasswordFile: "/p",
				SentinelUser: "s", SentinelPasswordFile: "/sp",
			}},
		{"rediss+sentinel://a/m", Config{Servers: []string{"a:26379"}, Master: "m", TLS: true}},
		{"redis+cluster://a:7000,b:7001", Config{Servers: []string{"a:7000", "b:7001"}, Cluster: true}},
		{"rediss+cluster://a/", Config{Servers: []string{"a:6379"}, Cluster: true, TLS: true}},
	} {
		got, err := ParseURL(c.url)
		if c.want.Prefix == "" {
			c.want.Prefix = "lockstep"
		}
		got.Log = nil
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParseURL(%q) = %+v, %v, want %+v", c.url, got, err, c.want)
		}
	}
}

func TestURLsThatAreRefusedSayWhyAndShowNoSecret(t *testing.T) {
	for _, c := range []struct{ url, why string }{
		{"http://r", "begins with"},
		{"redisx://r", "none of"},
		{"redis://user:hunter2@r", "password_file"},
		{"redis://:hunter2@r", "password_file"},
		{"redis://r?password=hunter2", "password_file"},
		{"redis+sentinel://r/m?sentinel_password=hunter2", "sentinel_password_file"},
		{"redis://a@r,b@r", "more than one user"},
		{"redis://r,s", "for several"},
		{"redis://", "host:port"},
		{"redis://r:0", "host:port"},
		{"redis://r:99999", "host:port"},
		{"redis://r/x", "number of a database"},
		{"redis://r/-1", "no database"},
		{"redis+sentinel://r", "master's name"},
		{"redis+cluster://r/1", "no database but 0"},
		{"redis://u@r", "needs password_file"},
		{"redis://r?sentinel_password_file=/p", "redis+sentinel:// only"},
		{"redis://r?tls_cert=/c", "go together"},
		{"redis://r?prefix={a}", "letters"},
		{"redis://r?wait=2", "wait"},
		{"redis://r?prefix=a&prefix=b", "twice"},
		{"redis://r?db=1", "none of"},
		{"redis://r?%zz", "badly escaped"},
		{"redis://%zz@r?password_file=/p", "badly escaped"},
	} {
		_, err := ParseURL(c.url)
		if err == nil || !strings.Contains(err.Error(), c.why) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ParseURL(%q) = %v, want an error about %q", c.url, err, c.why)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("redis+sentinel://u@a,b:1/m?password_file=/p&wait=0")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := ParseURL(raw)
		if err == nil && (len(c.Servers) == 0 || c.Prefix == "" || c.Cluster && c.Master != "") {
			t.Errorf("ParseURL(%q) = %+v", raw, c)
		}
	})
}
