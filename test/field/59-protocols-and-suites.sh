#!/bin/bash
# Clients name protocols that nobody speaks, or old suites. The edge does as Envoy does.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
envoy shop.example
edge
seen() { # seen PORT OPTIONS prints what was agreed on
	local p=$1
	shift
	timeout 10 openssl s_client -connect "127.0.0.1:$p" -servername shop.example "$@" </dev/null 2>&1 |
		grep -aoE "${what:-ALPN protocol: .*|No ALPN negotiated}" | line
}
for offer in http/1.0 spdy/3 acme-tls/1 foo,bar h2 http/1.1 'foo,http/1.1' 'h2,http/1.1'; do
	at=$(seen "$eager" -alpn "$offer")
	check "ALPN $offer" "$(seen "$edge" -alpn "$offer")" "${at:-Envoy refuses it}"
done
answer() {
	printf 'GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n' | raw shop.example "$1" -alpn foo
}
check 'a request without a protocol' "$(answer "$edge" | head -1 | tr -d '\r')" 'HTTP/1.1 200 OK'
what='Cipher is .*'
for suite in ECDHE-ECDSA-AES128-SHA ECDHE-ECDSA-AES128-SHA256 AES128-SHA; do
	check "$suite" "$(seen "$edge" -tls1_2 -cipher $suite)" '*\(NONE\)*'
done
for suite in ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-CHACHA20-POLY1305 ECDHE-ECDSA-AES256-GCM-SHA384; do
	check "$suite" "$(seen "$edge" -tls1_2 -cipher $suite)" "*$suite*"
done
verdict
