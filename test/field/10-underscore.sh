#!/bin/bash
# Names that are no host names: an underscore under a wildcard, and a trailing dot.
. "$(dirname "$0")/lib.sh"
issue certs/_.shop.example 'DNS:*.shop.example'
issue certs/shop.example DNS:shop.example
origin
plane
envoy
envoy '*.shop.example' shop.example
edge
for host in my_app.shop.example my-app.shop.example _dmarc.shop.example xn--bcher-kva.shop.example \
	MY_App.shop.example; do
	check "$host" "$(status $host "$ondemand" /)$(status $host "$eager" /)$(status $host "$edge" /)" 200200200
done
check explain "$(lockstep explain my_app.shop.example 2>&1 | line)" '*certificate of \*.shop.example*'
dotted() { # dotted PORT asks with a dot in the server name and the Host
	printf 'GET / HTTP/1.1\r\nHost: shop.example.\r\nConnection: close\r\n\r\n' |
		raw shop.example. "$1" | head -1 | cut -d' ' -f2
}
check 'a trailing dot at the edge is as at Envoy' "$(dotted "$edge")" "$(dotted "$eager")"
verdict
