"""A Python that makes a connection for each line on standard input.

    client.py HOST PORT CA VERSION
"""
import socket
import ssl
import sys

host, port, ca, version = sys.argv[1:5]
context = ssl.create_default_context(cafile=ca)
exact = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
context.minimum_version = context.maximum_version = exact
session = None


def visit():
    global session
    with socket.create_connection(("127.0.0.1", int(port)), 60) as tcp:
        with context.wrap_socket(tcp, server_hostname=host, session=session) as tls:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
            answer = b""
            while True:
                try:
                    more = tls.recv(4096)
                except ssl.SSLEOFError:  # a server may leave out close_notify
                    break
                if not more:
                    break
                answer += more
            if tls.session is not None and tls.session.has_ticket:
                session = tls.session
    return "ok" if answer.startswith(b"HTTP/1.1 200") else "error: %r" % answer[:60]


for _ in sys.stdin:
    try:
        print(visit(), flush=True)
    except OSError as e:
        print("error:", e, flush=True)
