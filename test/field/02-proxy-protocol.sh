#!/bin/bash
# Balancers say who the client is by the PROXY protocol, and so does verify.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
networks='s#^- address: .*#&\n  proxy_protocol: [NET]#'
edge "${networks/NET/127.0.0.0\/8}"
cat >say.py <<'PY'
# say.py PORT HEX... sends the pieces of a header one after the other, then a request over TLS
import socket, ssl, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
for piece in sys.argv[2:]:
    s.sendall(bytes.fromhex(piece))
    time.sleep(.05)
try:
    t = ssl.create_default_context(cafile="ca.crt").wrap_socket(s, server_hostname="shop.example")
    t.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    answer = b""
    while piece := t.recv(65536):
        answer += piece
    seen = [l[17:] for l in answer.decode().split("\r\n") if l.startswith("X-Forwarded-For: ")]
    print(answer.split()[1].decode(), *seen)
except OSError:
    print("closed")
PY
hex() { printf "$1" | od -An -v -tx1 | tr -d ' \n'; }
say() { $python say.py "$edge" "$@" 2>&1 | tail -1; }
v2=0d0a0d0a000d0a515549540a
v4=$v2"2111000c"c0000207cb007101303901bb # from 192.0.2.7:12345
v6=$v2"21210024"20010db800000000000000000000000720010db8000000000000000000000001303901bb
check 'version 1' "$(say "$(hex 'PROXY TCP4 192.0.2.7 203.0.113.1 12345 443\r\n')")" '200 192.0.2.7'
check 'version 1, IPv6' "$(say "$(hex 'PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n')")" '200 2001:db8::7'
check 'version 1, UNKNOWN' "$(say "$(hex 'PROXY UNKNOWN\r\n')")" '200 127.0.0.1'
check 'version 2' "$(say $v4)" '200 192.0.2.7'
check 'version 2, IPv6' "$(say $v6)" '200 2001:db8::7'
check 'version 2 in pieces' "$(say ${v4:0:10} ${v4:10:16} ${v4:26})" '200 192.0.2.7'
check 'version 2, LOCAL' "$(say $v2"20000000")" '200 127.0.0.1'
check 'a field that is not known' "$(say $v2"21110013"${v4:32}"e00004"01020304)" '200 192.0.2.7'
check 'no header' "$(say)" closed
check 'version 1 with a wrong address' "$(say "$(hex 'PROXY TCP4 999.0.2.7 203.0.113.1 12345 443\r\n')")" closed
check 'version 2 that is too short' "$(say $v2"21110004"c0000207)" closed
check 'the log' "$(grep -c '"remote":"192.0.2.7:12345"' edge.log)" '[1-9]*'
check 'curl' "$(status shop.example "$edge" / --haproxy-protocol)" 200
edges=$edge
edge "${networks/NET/127.0.0.0\/8}"
for version in v1 v2; do
	lockstep verify --sni shop.example --ca ca.crt --proxy-protocol=$version "127.0.0.1:$edges" "127.0.0.1:$edge" \
		>verify.log 2>&1
	check "verify with $version" $? 0
done
lockstep verify --sni shop.example --ca ca.crt "127.0.0.1:$edges" "127.0.0.1:$edge" >verify.log 2>&1
check 'verify without a header' $? '[1-9]*'
edge "${networks/NET/192.0.2.0\/24}"
check 'a header of a stranger' "$(say $v4)" closed
check 'a stranger without a header' "$(say)" '200 127.0.0.1'
verdict
