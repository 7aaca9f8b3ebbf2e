package place

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func env(pairs ...string) func(string) string {
	return func(key string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == key {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestEachUserHasAPlaceForData(t *testing.T) {
	for _, c := range []struct {
		uid  int
		env  func(string) string
		want string
	}{
		{0, env("XDG_STATE_HOME", "/x", "HOME", "/root"), "/var/lib/lockstep"},
		{1000, env("XDG_STATE_HOME", "/x", "HOME", "/home/a"), "/x/lockstep"},
		{1000, env("XDG_STATE_HOME", "relative", "HOME", "/home/a"), "/home/a/.local/state/lockstep"},
		{1000, env(), ""},
	} {
		if got, err := Data(c.uid, c.env); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("user %d: %q, %v; want %q", c.uid, got, err, c.want)
		}
	}
	if got, _ := Edge(0, env(), "../a/b"); got != "/var/lib/lockstep-edge/-a-b" {
		t.Errorf("the copy of a node lies in %s", got)
	}
}

func TestASocketForOthersLiesOutsideTheData(t *testing.T) {
	for _, c := range []struct {
		uid  int
		env  func(string) string
		want string
	}{
		{0, env(), "/run/lockstep/xds.sock"},
		{0, env("RUNTIME_DIRECTORY", "/run/a:/run/b"), "/run/a/xds.sock"},
		{1000, env("RUNTIME_DIRECTORY", "/run/a", "XDG_RUNTIME_DIR", "/run/user/1000"), "/run/a/xds.sock"},
		{1000, env("XDG_RUNTIME_DIR", "/run/user/1000"), "/run/user/1000/lockstep/xds.sock"},
		{1000, env(), ""},
	} {
		if got, err := Socket(c.uid, c.env); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("user %d: %q, %v; want %q", c.uid, got, err, c.want)
		}
	}
}

func TestAPathThatNoSocketCanHaveIsRefused(t *testing.T) {
	long := "/" + strings.Repeat("a", MaxSocket-1)
	if err := CheckSocket(long); err != nil {
		t.Errorf("%d bytes: %v", len(long), err)
	}
	for path, want := range map[string]string{long + "b": "has 108 bytes", "@x": "abstract", "": "no path"} {
		if err := CheckSocket(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestTheDataOfAnEarlierVersionIsNotForgotten(t *testing.T) {
	t.Chdir(t.TempDir())
	now := filepath.Join(t.TempDir(), "now")
	if err := Forgotten(now); err != nil {
		t.Fatalf("nothing is there: %v", err)
	}
	if err := os.Mkdir(Before, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Forgotten(now); err != nil {
		t.Fatalf("an empty directory: %v", err)
	}
	if err := os.WriteFile(filepath.Join(Before, "sealing.key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Forgotten(now); err == nil || !strings.Contains(err.Error(), "--data-dir ./lockstep-data") {
		t.Fatalf("the keys would be left behind: %v", err)
	}
	if err := Forgotten(Before); err != nil {
		t.Fatalf("the same place: %v", err)
	}
	if err := os.Mkdir(now, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(now, "store.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Forgotten(now); err != nil {
		t.Fatalf("the place of now is in use: %v", err)
	}
}
