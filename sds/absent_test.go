package sds

import (
	"strings"
	"testing"

	"github.com/lockstep-tls/lockstep/keysource"
)

func TestWhatMeshesAskForIsSaidToBeNotOurs(t *testing.T) {
	for name, want := range map[string]string{
		"ROOTCA":                      "CA certificates",
		"ALL":                         "CA certificates",
		"default":                     "a workload",
		"file-root:/etc/certs/ca.pem": "CA certificates",
		"file-cert:/etc/c.pem~/etc/k": "a file of the node",
		"kubernetes://shop":           "of Kubernetes",
		"kubernetes://shop-cacert":    "CA certificates",
		"kubernetes-gateway://ns/n":   "of Kubernetes",
		"configmap://ns/n":            "of Kubernetes",
		"builtin://":                  "the mesh's own",
		"spiffe://trust.example":      "CA certificates",
		"spiffe://trust.example/a":    "a workload",
		"sds://shop.example-cacert":   "CA certificates",
		"validation_context_sds":      "no certificate has this name",
		"validation context":          "no certificate can have this name",
		"envoy-gateway-system/envoy":  "no certificate can have this name",
		"server":                      "no certificate has this name",
		"sds://server":                "no certificate has this name",
		"":                            "no certificate can have this name",
		"shop.example":                "",
		"*.shop.example":              "",
		"sds://shop.example":          "",
		"chain:shop.example":          "",
		"chain:localhost":             "",
		keysource.RingName("default"): "",
	} {
		if got := NotOurs(name); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: %q, want %q in it", name, got, want)
		}
	}
}
