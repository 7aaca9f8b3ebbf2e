#!/bin/bash
# Paths arrive at upstreams byte for byte, or are refused.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
edge
cat >ask.py <<'PY'
# ask.py PORT reads paths with NUL behind each, and prints for each the path that arrived, or a code
import socket, ssl, sys
context = ssl.create_default_context(cafile="ca.crt")
for path in sys.stdin.buffer.read().split(b"\0")[:-1]:
    raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
    s = context.wrap_socket(raw, server_hostname="shop.example")
    s.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    answer = b""
    try:
        while piece := s.recv(65536):
            answer += piece
    except OSError:
        pass
    head, _, body = answer.partition(b"\r\n\r\n")
    code = head.split(b" ")[1]
    arrived = body[4:].split(b" HTTP/1.1\r\n")[0] if code == b"200" else code
    sys.stdout.buffer.write(arrived + b"\0")
PY
free=('/p/a%2Fb%7e' '/p/a%2Fb%7e|{c}^' $'/p/a%2Fb/\xc3\xa4' '/p/a%2Fb"x' '/p/`a%2Fb' '/p/a%2fb[1]<x>' '/a%20b' '/%41'
	'/a;b=c' '/a//b' '//a' '/a?' '/a??b' '/a?x=%zz' '/a?q=a|b^"{c}' '/a%2c,b' "/a'b" '/a!$&()*+:@' '/%E4' '/a%3fb'
	'/a%25b' '/a?b=/../c' '/*' '/a=%26' '/~%7E' $'/\xff' '/a%00b' '/%c0%ae' '/a\b' '/a/.b' '/a/...' '/a%252e%252e/b')
refused=(/public/../admin /public/%2e%2e/admin /public/%2E%2E%2fadmin '/public/..;/admin' '/public/..%5cadmin' '/a#b'
	'/a/./b')
mapfile -d '' seen < <(printf '%s\0' "${free[@]}" "${refused[@]}" | $python ask.py "$edge")
arrived=0
for i in "${!free[@]}"; do
	[ "${seen[i]}" != "${free[i]}" ] || { arrived=$((arrived + 1)); continue; }
	[ "${seen[i]}" = 400 ] || faults+=("${free[i]}: ${seen[i]}")
done
check 'most arrive' "$((arrived > 24))" 1
for i in "${!refused[@]}"; do check "${refused[i]}" "${seen[i + ${#free[@]}]}" 400; done
verdict
