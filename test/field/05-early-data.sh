#!/bin/bash
# A client offers 0-RTT with a ticket of another server that was at this address before. Envoy
# declines the offer. The edge cannot, since Go's TLS cannot. It answers in TLS 1.2, after which
# browsers begin again. OpenSSL fails with that session, and is served without it.
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
kept() {
	(sleep .3; echo) | timeout 5 openssl s_client -connect "127.0.0.1:$s" -servername shop.example -sess_out s.pem \
		>/dev/null 2>&1
	[ -s s.pem ]
}
within 10 kept || wrong "fixture: no session"
printf 'GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n' >early
offer() {
	timeout 10 openssl s_client -connect "127.0.0.1:$1" -servername shop.example -sess_in s.pem -early_data early \
		</dev/null 2>&1 | grep -aoE 'Early data was [a-z]+|^New, TLSv1..' | line
}
check Envoy "$(offer "$eager")" 'New, TLSv1.3|Early data was rejected|'
check 'the edge answers in TLS 1.2' "$(offer "$edge")" 'New, TLSv1.2|*'
check 'without the offer' "$(session "$edge" tls1_3)" New
check others "$(status shop.example "$edge" /)" 200
check 'the offer is counted' "$(curl -s "http://127.0.0.1:$edge_admin/metrics" |
	grep -c '^lockstep_edge_early_data_offers_total [1-9]')" 1
verdict
