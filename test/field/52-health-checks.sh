#!/bin/bash
# Health checks send no server name, an address as the host, or HTTP/1.0.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
edge 's#^- address: .*#&\n  health_path: /-/healthy#'
ask() { # ask prints the code of a request by a client without a server name
	timeout 10 openssl s_client -quiet -noservername -connect "127.0.0.1:$edge" "$@" 2>/dev/null | head -1 |
		cut -d' ' -f2
}
check 'HTTP/1.0' "$(printf 'GET /-/healthy HTTP/1.0\r\n\r\n' | ask)" 200
check 'HTTP/1.0 with an address' "$(printf 'GET /-/healthy HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n' | ask)" 200
check 'HEAD' "$(printf 'HEAD /-/healthy HTTP/1.1\r\nHost: 10.0.0.1:8443\r\nConnection: close\r\n\r\n' | ask)" 200
check 'an IPv6 address' "$(printf 'GET /-/healthy HTTP/1.1\r\nHost: [::1]\r\nConnection: close\r\n\r\n' | ask)" 200
check 'OPTIONS, TLS 1.2' "$(printf 'OPTIONS /-/healthy HTTP/1.0\r\n\r\n' | ask -tls1_2)" 200
check 'curl -k' "$(curl -sk -o /dev/null -w '%{http_code}' "https://127.0.0.1:$edge/-/healthy")" 200
check 'HTTP/2' "$(curl -sk --http2 -o /dev/null -w '%{http_version} %{http_code}' \
	"https://127.0.0.1:$edge/-/healthy")" '2 200'
check 'another path' "$(printf 'GET / HTTP/1.0\r\nHost: shop.example\r\n\r\n' | ask)" 421
check 'a longer path' "$(printf 'GET /-/healthy/x HTTP/1.0\r\nHost: shop.example\r\n\r\n' | ask)" 421
check 'POST' "$(printf 'POST /-/healthy HTTP/1.0\r\nContent-Length: 0\r\n\r\n' | ask)" '4*'
check 'with a server name' "$(status shop.example "$edge" /-/healthy)" 200
check 'the site' "$(status shop.example "$edge" /)" 200
check 'not sent on' "$(fetch shop.example "$edge" /-/healthy | grep -c Host)" 0
edge
check 'without health_path' "$(printf 'GET /-/healthy HTTP/1.0\r\n\r\n' | ask)" ''
verdict
