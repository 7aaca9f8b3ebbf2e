#!/bin/bash
# A client offers 0-RTT with a ticket of another server that was at this address before.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
envoy shop.example
edge
port s
spawn s.log openssl s_server -accept "$s" -cert certs/shop.example/tls.crt -key certs/shop.example/tls.key -tls1_3 \
	-early_data -max_early_data 4096 -quiet
opened "$s" s.log
(sleep 1; echo) | openssl s_client -connect "127.0.0.1:$s" -servername shop.example -sess_out s.pem >/dev/null 2>&1
[ -s s.pem ] || wrong "fixture: no session"
printf 'GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n' >early
offer() {
	timeout 10 openssl s_client -connect "127.0.0.1:$1" -servername shop.example -sess_in s.pem -early_data early \
		</dev/null 2>&1 | grep -aE 'alert|Early data was|^New|^Reused' | line
}
check Envoy "$(offer "$eager")" 'New*rejected*'
check 'the edge' "$(offer "$edge")" 'New*rejected*'
check 'no alert' "$(offer "$edge" | grep -c alert)" 0
check 'others after it' "$(status shop.example "$edge" /)" 200
verdict
