package envoy_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// planes have a page each, and files that users apply. That these work on Envoy is shown in
// test/e2e.
var planes = []string{"../envoy-gateway", "../istio", "../consul"}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// kinds are those that a user applies there.
var kinds = map[string]bool{
	"v1 ConfigMap": true, "v1 Secret": true, "apps/v1 Deployment": true,
	"gateway.envoyproxy.io/v1alpha1 EnvoyProxy": true, "gateway.envoyproxy.io/v1alpha1 ClientTrafficPolicy": true,
	"gateway.envoyproxy.io/v1alpha1 EnvoyPatchPolicy": true,
	"gateway.networking.k8s.io/v1 Gateway":            true, "networking.istio.io/v1 Gateway": true,
	"networking.istio.io/v1 DestinationRule": true, "networking.istio.io/v1alpha3 EnvoyFilter": true,
}

func TestEachFileParsesAndIsOfAKnownKind(t *testing.T) {
	n := 0
	for _, plane := range planes {
		files, err := filepath.Glob(plane + "/*.[jy]*")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			text := read(t, file)
			if n++; strings.HasSuffix(file, ".json") {
				if !json.Valid([]byte(text)) {
					t.Errorf("%s is not JSON", file)
				}
				continue
			}
			for i, part := range strings.Split(text, "\n---\n") {
				var doc map[string]any
				if err := yaml.Unmarshal([]byte(part), &doc); err != nil {
					t.Errorf("%s, document %d: %v", file, i, err)
				}
				if kind := fmt.Sprint(doc["apiVersion"], " ", doc["kind"]); doc != nil && !kinds[kind] {
					t.Errorf("%s, document %d: %s", file, i, kind)
				}
				data, _ := doc["data"].(map[string]any)
				for name, inner := range data { // YAML in YAML
					var v map[string]any
					if err := yaml.Unmarshal([]byte(inner.(string)), &v); err != nil || len(v) == 0 {
						t.Errorf("%s, %s: %v", file, name, err)
					}
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("%d files", n)
	}
}

var link = regexp.MustCompile(`\]\(([^)#]+)\)`)

func TestThePagesLinkToWhatIsThere(t *testing.T) {
	readme := read(t, "../../README.md")
	for _, plane := range planes {
		page := filepath.Join(plane, "README.md")
		if !strings.Contains(readme, "(deploy/"+strings.TrimPrefix(page, "../")+")") {
			t.Errorf("README.md does not link to %s", page)
		}
		linked := map[string]bool{}
		for _, m := range link.FindAllStringSubmatch(read(t, page), -1) {
			if linked[m[1]] = true; strings.HasPrefix(m[1], "https://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(plane, m[1])); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
		files, _ := filepath.Glob(plane + "/*.[jy]*")
		for _, file := range files {
			if !linked[filepath.Base(file)] {
				t.Errorf("%s does not mention %s", page, file)
			}
		}
	}
}

// TestTheSocketIsTheSameEverywhere: the forwarder listens where Envoy Gateway's reference points,
// and the patch names the cluster that follows from it (envoyproxy/gateway,
// internal/xds/translator/sds.go, sdsClusterNameFromURL).
func TestTheSocketIsTheSameEverywhere(t *testing.T) {
	const socket = "/run/lockstep/sds.sock"
	cluster := fmt.Sprintf("cluster_name: sds_%s_%x",
		strings.Trim(strings.ReplaceAll(socket, "/", "_"), "_"), sha256.Sum256([]byte(socket)))
	cluster = cluster[:len(cluster)-32] // half of the hash
	for file, want := range map[string]string{
		"forwarder.yaml": `pipe: {path: "` + socket + `"`, "../envoy-gateway/gateway.yaml": "url: " + socket + "\n",
		"../envoy-gateway/tickets.yaml": cluster + "\n",
		"../istio/README.md":            "`/var/run/secrets/credential-uds/socket`",
		"../istio/deployment.yaml":      "mountPath: /var/run/secrets/credential-uds}",
	} {
		if !strings.Contains(read(t, file), want) {
			t.Errorf("%s: there is no %q", file, want)
		}
	}
}
