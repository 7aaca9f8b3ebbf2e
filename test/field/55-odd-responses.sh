#!/bin/bash
# Upstreams answer what is no HTTP, or little of it. The endpoint stays in use.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
plane
cat >odd.py <<'PY'
import socketserver, sys
answers = {
    b"/text": b"hello\r\n\r\n", b"/bytes": bytes(range(256)), b"/code": b"HTTP/1.1 abc OK\r\n\r\n",
    b"/header": b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", b"/lengths":
    b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", b"/minus":
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"/coding":
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: novel\r\n\r\nx", b"/space":
    b"HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n", b"/http2": b"\0\0\0\4\0\0\0\0\0", b"/version":
    b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n", b"/long": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 11000000,
    b"/end": b"HTTP/1.1 200 OK\r\nContent-Le", b"/nothing": b"",
}
class Odd(socketserver.BaseRequestHandler):
    def handle(self):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.request.recv(65536)
            if not piece:
                return
            head += piece
        path = head.split(b" ")[1]
        try:
            self.request.sendall(answers.get(path, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
        except OSError:
            pass
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", int(sys.argv[1])), Odd).serve_forever()
PY
port up
spawn odd.log $python odd.py "$up"
opened "$up" odd.log
edge
for path in text bytes code header lengths minus coding http2 long; do
	codes=
	for _ in 1 2 3 4; do codes+=$(status shop.example "$edge" /$path); done
	check "$path" "$codes" 502502502502
	check "others after $path" "$(status shop.example "$edge" /)" 200
done
check 'an end in the middle' "$(status shop.example "$edge" /end -d x)" 502
check 'others after it' "$(status shop.example "$edge" /)" 200
verdict
