#!/bin/bash
# Requests whose end is in doubt are refused, and the connection is closed. What the edge itself
# refuses is in the log, which is JSON throughout.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
edge
ask() { # ask REQUEST prints the codes of all answers on the connection
	(printf "$1"; sleep .3) | raw shop.example "$edge" | grep -aoE 'HTTP/1.[01] [0-9]+' | cut -d' ' -f2 | line
}
host='Host: shop.example\r\n'
next='GET /next HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n'
chunked='Transfer-Encoding: chunked\r\n'
body='0\r\n\r\n'
check 'both lengths' "$(ask "POST / HTTP/1.1\r\n${host}Content-Length: 5\r\n$chunked\r\n$body$next")" '400|'
check 'in the other order' "$(ask "POST / HTTP/1.1\r\n${host}${chunked}Content-Length: 5\r\n\r\n$body$next")" '400|'
check 'chunked in HTTP/1.0' "$(ask "POST / HTTP/1.0\r\n$host$chunked\r\n$body$next")" '400|'
check 'two lengths' "$(ask "POST / HTTP/1.1\r\n${host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx$next")" '400|'
coded='Transfer-Encoding: gzip, chunked\r\n'
check 'a coding before chunked' "$(ask "POST / HTTP/1.1\r\n$host$coded\r\n$body$next")" '[45]0[01]|'
check 'chunked' "$(ask "POST / HTTP/1.1\r\n${host}Connection: close\r\n$chunked\r\n$body")" '200|'
check 'a length' "$(ask "POST / HTTP/1.1\r\n${host}Content-Length: 1\r\n\r\nx$next")" '200|200|'
check 'no host' "$(ask 'GET /h HTTP/1.1\r\n\r\n')" '400|'
check 'an expectation' "$(ask "GET /e HTTP/1.1\r\n${host}Expect: else\r\n\r\n")" '417|'
check 'another version' "$(ask "GET /v HTTP/3.7\r\n$host\r\n")" '505|'
check 'large headers' "$(ask "GET /l HTTP/1.1\r\n${host}X: $(head -c 200000 /dev/zero | tr '\0' x)\r\n\r\n")" '431|'
check 'OPTIONS *' "$(ask "OPTIONS * HTTP/1.1\r\n${host}Connection: close\r\n\r\n")" '[2-4]??|'
printf 'GET / HTTP/1.1\r\n\r\n' >/dev/tcp/127.0.0.1/"$edge" # no TLS
timeout 5 openssl s_client -connect "127.0.0.1:$edge" -servername unknown.example </dev/null >/dev/null 2>&1
logged() { grep -c "\"status\":$1" edge.log; }
for code in 400 417 505 431; do
	within 5 logged $code >/dev/null
	check "$code is in the log" "$(logged $code)" '[1-9]*'
done
told() { grep -q unknown.example edge.log; }
within 5 told
check 'a handshake that failed is in the log' $? 0
check 'lines that are no JSON' "$($python -c '
import json, sys
def bad(line):
    try:
        json.loads(line)
        return False
    except ValueError:
        return True
print(sum(bad(l) for l in open("edge.log") if l.strip()))')" 0
verdict
