#!/bin/bash
# RSA and ECDSA for one host: what the client can do decides, at Envoy and at the edge.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
mkdir rsa
key rsa/tls.key 2048
issue rsa DNS:shop.example
cp rsa/tls.crt certs/shop.example/tls.rsa.crt
cp rsa/tls.key certs/shop.example/tls.rsa.key
origin
plane
envoy shop.example
edge
able() { # able PORT OPTIONS prints the kind of the certificate that a client is shown
	local p=$1
	shift
	timeout 5 openssl s_client -connect "127.0.0.1:$p" -servername shop.example "$@" </dev/null 2>/dev/null |
		openssl x509 -noout -text 2>/dev/null | grep -oE 'id-ecPublicKey|rsaEncryption' | head -1
}
for node in eager edge; do
	p=${!node}
	check "$node, RSA only, TLS 1.2" "$(able "$p" -tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256)" rsaEncryption
	check "$node, RSA only, TLS 1.3" "$(able "$p" -tls1_3 -sigalgs RSA-PSS+SHA256:RSA+SHA256)" rsaEncryption
	check "$node, ECDSA only, TLS 1.2" "$(able "$p" -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256)" id-ecPublicKey
	check "$node, ECDSA only, TLS 1.3" "$(able "$p" -tls1_3 -sigalgs ECDSA+SHA256)" id-ecPublicKey
	check "$node, both" "$(able "$p")" id-ecPublicKey
	for version in tls1_2 tls1_3; do
		session "$p" $version -sess_out "s.$node" >/dev/null
		check "$node resumes with $version" "$(session "$p" $version -sess_in "s.$node")" Reused
	done
done
verdict
