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
		{"rediss+sentinel://a/m/2?tls_name=redis.example,s.example&announce=172.17.0.2=203.0.113.5," +
			"[fd00::1]:6379=R.example:16379",
			Config{
				Servers: []string{"a:26379"}, Master: "m", DB: 2, TLS: true,
				TLSNames:  []string{"redis.example", "s.example"},
				Announced: []Announced{{"172.17.0.2", "203.0.113.5"}, {"[fd00::1]:6379", "r.example:16379"}},
			}},
		{"redis+cluster://a?tls_name=10.0.0.1", Config{
			Servers: []string{"a:6379"}, Cluster: true, TLS: true, TLSNames: []string{"10.0.0.1"},
		}},
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
		{"redis+sentinel://r/m/x", "number of a database"},
		{"redis+sentinel://r/m/1/2", "number of a database"},
		{"redis+sentinel://r/m/-1", "no database"},
		{"redis+cluster://r/1", "no database but 0"},
		{"redis+cluster://r/1", "prefix=NAME"},
		{"redis://r?tls_name=", "tls_name"},
		{"redis://r?tls_name=a,", "tls_name"},
		{"redis://r?tls_name=*.example", "wildcard"},
		{"redis://r?tls_name=a:6379", "without a port"},
		{"redis://r?tls_name=a&tls_name=b", "twice"},
		{"redis://r?announce=a=b", "redis+sentinel://"},
		{"redis+sentinel://r/m?announce=a", "announced=reachable"},
		{"redis+sentinel://r/m?announce=a=", "host:port"},
		{"redis+sentinel://r/m?announce==b", "host:port"},
		{"redis+sentinel://r/m?announce=a=b:1", "name the announced port"},
		{"redis+sentinel://r/m?announce=a:0=b", "port"},
		{"redis+sentinel://r/m?announce=a:1=b:x", "port"},
		{"redis+sentinel://r/m?announce=a=b,A.=c", "twice"},
		{"redis+sentinel://r/m?announce=a=b,", "announced=reachable"},
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

func TestAnAnnouncedAddressIsReachedWhereTheURLSays(t *testing.T) {
	c, err := ParseURL("redis+sentinel://r/m?announce=10.0.0.1:6379=h.example:1,10.0.0.1=192.0.2.1," +
		"fd00::1=[2001:db8::1],redis-0=192.0.2.2:7")
	if err == nil || !strings.Contains(err.Error(), "redis-0") {
		t.Fatalf("a host that leads to one port: %v", err)
	}
	if c, err = ParseURL("redis+sentinel://r/m?announce=10.0.0.1:6379=h.example:1,10.0.0.1=192.0.2.1," +
		"fd00::1=[2001:db8::1],Redis-0=h.example,10.0.0.2:1=h.example"); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.0.0.1:6379":           "h.example:1",
		"10.0.0.1:6380":           "192.0.2.1:6380",
		"[::ffff:10.0.0.1]:6380":  "192.0.2.1:6380",
		"[fd00:0::1]:6379":        "[2001:db8::1]:6379",
		"redis-0.:6379":           "h.example:6379",
		"10.0.0.2:1":              "h.example:1",
		"10.0.0.2:2":              "10.0.0.2:2",
		"192.0.2.1:6379":          "192.0.2.1:6379",
		"[fd00::2%eth0]:6379":     "[fd00::2%eth0]:6379",
		"not an address":          "not an address",
		"redis-0.other.test:6379": "redis-0.other.test:6379",
	} {
		if got := c.reach(addr); got != want {
			t.Errorf("%s is reached as %s, want %s", addr, got, want)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("redis+sentinel://u@a,b:1/m?password_file=/p&wait=0")
	f.Add("rediss+sentinel://a/m/2?tls_name=a,b&announce=a=b,[::1]:1=c:2")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := ParseURL(raw)
		if err == nil && (len(c.Servers) == 0 || c.Prefix == "" || c.Cluster && c.Master != "") {
			t.Errorf("ParseURL(%q) = %+v", raw, c)
		}
	})
}
