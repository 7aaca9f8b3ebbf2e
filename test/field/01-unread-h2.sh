#!/bin/bash
# A client opens 60 streams, asks for 8 MiB in each, and reads nothing. What does the edge hold?
. "$(dirname "$0")/lib.sh"
need nginx
issue certs/shop.example DNS:shop.example
issue back DNS:localhost
head -c 8388608 /dev/zero >big
plane
port s
port c
port h
cat >nginx.conf <<N
daemon off;
master_process off;
pid $work/nginx.pid;
error_log $work/nginx.err;
events {}
http {
	access_log off;
	client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3;
	uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
	root $work;
	server {
		listen 127.0.0.1:$s ssl http2;
		ssl_certificate $work/back/tls.crt;
		ssl_certificate_key $work/back/tls.key;
	}
	server { listen 127.0.0.1:$c http2; }
	server { listen 127.0.0.1:$h; }
}
N
spawn nginx.log nginx -p "$work" -c nginx.conf
opened "$s" nginx.log
cat >unread.py <<'PY'
# unread.py PORT PID prints by how many MiB the process grew
import socket, ssl, sys, time
def resident():
    return int([l for l in open("/proc/%s/status" % sys.argv[2]) if l.startswith("VmRSS")][0].split()[1]) / 1024
def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
def literal(name, value):
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
before = resident()
context = ssl.create_default_context(cafile="ca.crt")
context.set_alpn_protocols(["h2"])
s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))), server_hostname="shop.example")
head = b"".join(literal(*p) for p in ((b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/big"),
                                       (b":authority", b"shop.example")))
s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"\x00\x04\x00\x00\x00\x01"))
for stream in range(1, 121, 2):
    s.sendall(frame(1, 5, stream, head))
most, end = 0, time.time() + 2
while time.time() < end:
    most = max(most, resident() - before)
    time.sleep(.05)
s.settimeout(1)
seen = b""
try:
    while len(seen) < 200000 and (piece := s.recv(65536)):
        seen += piece
except OSError:
    pass
answered, at = 0, 0
while at + 9 <= len(seen):
    answered += seen[at + 3] == 1
    at += 9 + int.from_bytes(seen[at:at + 3], "big")
print(round(most), answered)
PY
for upstream in "https://localhost:$s" "h2c://127.0.0.1:$c" "http://127.0.0.1:$h"; do
	edge "s#upstreams:.*#upstreams: [\"$upstream\"]\n  upstream_ca: $work/ca.crt#"
	check "nginx answers by ${upstream%%:*}" "$(status shop.example "$edge" /big)" 200
	read -r grew answered <<<"$($python unread.py "$edge" $edge_pid)"
	check "${upstream%%:*}: all 60 have begun" "$answered" 60
	check "${upstream%%:*}: $grew MiB" "$((grew < 40))" 1
done
verdict
