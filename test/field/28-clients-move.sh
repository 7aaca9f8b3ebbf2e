#!/bin/bash
# Clients that are not ours carry their sessions from node to node, through rotations and a kill -9.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
envoy shop.example
A=$eager A_pid=$eager_pid
envoy shop.example
B=$eager
edge
E=$edge E_pid=$edge_pid
edge
F=$edge
pairs=("Envoy $A $B" "edge $E $F")
make_sessions() {
	local pair name a b version
	for pair in "${pairs[@]}"; do
		read -r name a b <<<"$pair"
		for version in tls1_2 tls1_3; do session "$a" $version -sess_out "s.$name.$version" >/dev/null; done
	done
}
move() { # move WHEN
	local pair name a b version
	for pair in "${pairs[@]}"; do
		read -r name a b <<<"$pair"
		for version in tls1_2 tls1_3; do
			check "OpenSSL, $version, $name, $1" "$(session "$b" $version -sess_in "s.$name.$version")" Reused
		done
	done
}
make_sessions
move 'another node'
lockstep rotate --wait >/dev/null 2>&1
move 'after a rotation'
lockstep rotate --wait >/dev/null 2>&1
move 'after two rotations'
cat >client.py <<'PY'
import socket, ssl, sys
context = ssl.create_default_context(cafile="ca.crt")
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, sys.argv[3])
def connect(port, session=None):
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), 5), server_hostname="shop.example",
                            session=session)
    s.sendall(b"GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n")
    try:
        while s.recv(4096):
            pass
    except ssl.SSLError:
        pass
    return s.session_reused, s.session
session = connect(sys.argv[1])[1]
print(connect(sys.argv[2], session)[0])
PY
cat >client.js <<'JS'
const tls = require('tls'), ca = require('fs').readFileSync('ca.crt');
const [a, b, version] = process.argv.slice(2);
const connect = (port, session) => new Promise((done) => {
  const c = tls.connect({host: '127.0.0.1', port: +port, servername: 'shop.example', ca, session,
    minVersion: version, maxVersion: version});
  let got, reused;
  c.on('session', (s) => { got = s; });
  c.on('secureConnect', () => {
    reused = c.isSessionReused();
    c.write('GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n');
  });
  c.on('data', () => {});
  c.on('close', () => done([reused, got]));
  c.on('error', (e) => done([e.code]));
});
connect(a).then(([, s]) => connect(b, s)).then(([reused]) => console.log(reused));
JS
for pair in "${pairs[@]}"; do
	read -r name a b <<<"$pair"
	for version in TLSv1_2 TLSv1_3; do
		check "Python, $version, $name" "$($python client.py "$a" "$b" $version 2>&1 | tail -1)" True
		command -v node >/dev/null || continue
		check "Node, $version, $name" "$(timeout 10 node client.js "$a" "$b" ${version/_/.} 2>&1 | tail -1)" true
	done
	command -v gnutls-cli >/dev/null || continue
	for version in 1.2 1.3; do
		[ "$name$version" = Envoy1.3 ] && continue # GnuTLS resumes at no Envoy with TLS 1.3
		seen=$(printf 'GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n' |
			timeout 15 gnutls-cli -r --priority "NORMAL:-VERS-ALL:+VERS-TLS$version" --x509cafile ca.crt \
				--sni-hostname shop.example --verify-hostname shop.example -p "$a" 127.0.0.1 2>&1)
		check "GnuTLS, TLS $version, $name" "$(grep -c 'This is a resumed session' <<<"$seen")" '[1-9]*'
	done
done
make_sessions
stop "$A_pid" -KILL
stop "$E_pid" -KILL
move 'after a kill -9'
verdict
