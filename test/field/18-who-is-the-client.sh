#!/bin/bash
# The upstream of a listener with client certificates learns who the client is.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
subject='/O=Acme, Inc./CN=alice' issue alice DNS:alice.example,URI:spiffe://t/alice extendedKeyUsage=clientAuth
issue bob DNS:bob.example extendedKeyUsage=clientAuth
cat >plane.yaml <<Y
scopes:
  default:
    client_certs: "$(openssl x509 -in ca.crt -noout -fingerprint -sha256 | cut -d= -f2 | tr -d : | tr A-F a-f)"
Y
origin
plane --config plane.yaml
edge "s#^  scope: .*#&\n  client_ca: $work/ca.crt#"
told() { grep -ai '^X-Forwarded-Client-Cert' | tr -d '\r'; }
as() { who=$1; shift; fetch shop.example "$edge" / --cert "$who/tls.crt" --key "$who/tls.key" "$@"; }
hash=$(openssl x509 -in alice/tls.crt -outform der | sha256sum | cut -d' ' -f1)
for version in --http1.1 --http2; do
	check "alice $version" "$(as alice $version -H 'X-Forwarded-Client-Cert: Hash=forged' | told)" \
		"*Hash=$hash*alice*URI=spiffe://t/alice;DNS=alice.example"
done
check bob "$(as bob | told)" '*DNS=bob.example'
check 'nobody' "$(status shop.example "$edge" /)" 000
for version in tls1_2 tls1_3; do
	ask() {
		(printf 'GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n'; sleep .3) |
			timeout 10 openssl s_client -$version -connect "127.0.0.1:$edge" -servername shop.example \
				-cert alice/tls.crt -key alice/tls.key "$@" 2>/dev/null >out
	}
	ask -sess_out s.$version
	ask -sess_in s.$version
	check "resumed, $version" "$(grep -aoE '^Reused' out) $(told <out)" '*Reused*Hash='$hash'*'
done
verdict
