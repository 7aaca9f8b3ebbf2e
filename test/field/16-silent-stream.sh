#!/bin/bash
# An upstream is silent for longer than timeouts.body. That is not the client's fault.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
plane
cat >slow.py <<'PY'
import socketserver, sys, time
class Slow(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.request.recv(65536)
        time.sleep(9 if b"/never" in head else 2.2)
        self.request.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer(("127.0.0.1", int(sys.argv[1])), Slow).serve_forever()
PY
port up
spawn slow.log $python slow.py "$up"
opened "$up" slow.log
edge '$a timeouts: {body: 1s, upstream_header: 4s}'
post() { # post HEADER PATH sends one piece of a body, and no more
	(printf 'POST %s HTTP/1.1\r\nHost: shop.example\r\n%s\r\n\r\n2\r\nhi\r\n' "$2" "$1"; sleep 6) |
		raw shop.example "$edge" | head -1 | cut -d' ' -f2 >"$3"
}
post 'Transfer-Encoding: chunked' / open &
post 'Content-Length: 100' / owed &
post 'Transfer-Encoding: chunked' /never never &
status shop.example "$edge" / >get &
status shop.example "$edge" / -d whole >whole &
status shop.example "$edge" /never >long &
for job in $(jobs -p); do
	[[ " ${started[*]} " == *" $job "* ]] || wait "$job"
done
check 'an open stream' "$(cat open)" 200
check 'a body that the client owes' "$(cat owed)" 408
check 'a stream that nobody goes on with' "$(cat never)" 504
check 'GET' "$(cat get)" 200
check 'a whole POST' "$(cat whole)" 200
check 'longer than upstream_header' "$(cat long)" 504
verdict
