package sds

import (
	"strings"

	"github.com/lockstep-tls/lockstep/keysource"
)

// NotOurs says of a name why lockstepd has no such secret, and what to do. It returns "" for the
// names of rings, and for names under which somebody may want a host's certificate. Those have a
// dot in them.
//
// A mesh asks its proxies for secrets that its own agent has: CA certificates, the workload's
// certificate, files. A listener waits for such a secret, and resets clients. A name without a dot
// may still be that of a certificate, so ask this only about names for which there is none.
func NotOurs(name string) string {
	if _, ring := keysource.RingScope(name); ring {
		return ""
	}
	const (
		serves = "lockstepd serves certificates of hosts and rings of ticket keys only; "
		noCA   = "it is a set of CA certificates, and lockstepd serves none: " +
			"give them to the node inline or as a file (validation_context.trusted_ca), " +
			"or have the mesh's agent serve them"
		workload = "it is the certificate of a workload, which its mesh or SPIRE serves: " +
			"have the node ask that agent's socket for it"
		file = "it is a file of the node, which the mesh's agent serves: " +
			"have the node ask that agent's socket for it, or give the path in its configuration"
	)
	scheme, rest, hasScheme := strings.Cut(name, ":")
	bare := strings.TrimPrefix(name, istio)
	switch {
	case name == "ROOTCA" || name == "ALL" || hasScheme && scheme == "file-root" ||
		strings.HasSuffix(name, "-cacert"):
		return noCA
	case scheme == "spiffe" && hasScheme:
		if strings.Contains(strings.TrimPrefix(rest, "//"), "/") {
			return workload
		}
		return noCA
	case name == "default":
		return workload
	case hasScheme && scheme == "file-cert":
		return file
	case hasScheme && (strings.HasPrefix(scheme, "kubernetes") || scheme == "configmap"):
		return "it is a Secret or ConfigMap of Kubernetes, which the mesh's control plane serves: " +
			"have the node ask that for it, or give Istio's gateway credentialName: sds://HOST"
	case hasScheme && scheme == "builtin":
		return "it is the mesh's own certificate, which its agent serves: have the node ask that agent's socket for it"
	}
	if _, err := keysource.CertificateName(name); err != nil {
		return "no certificate can have this name: " + serves +
			"name the secret after the host (shop.example), or tickets/SCOPE for a ring"
	}
	if !strings.Contains(bare, ".") && !strings.HasPrefix(name, chain) {
		return "no certificate has this name: " + serves +
			"name the secret after the host (shop.example), or put a certificate under it"
	}
	return ""
}

// istio and chain begin names of certificates; see [keysource.CertificateName].
const istio, chain = "sds://", "chain:"
