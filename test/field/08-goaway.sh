#!/bin/bash
# nginx is an HTTP/2 upstream that says GOAWAY after each third request. No POST is lost.
. "$(dirname "$0")/lib.sh"
need nginx
issue certs/shop.example DNS:shop.example
issue back DNS:localhost
plane
port s
port c
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
	keepalive_requests 3;
	server {
		listen 127.0.0.1:$s ssl http2;
		ssl_certificate $work/back/tls.crt;
		ssl_certificate_key $work/back/tls.key;
		location / { return 200 ok; }
	}
	server { listen 127.0.0.1:$c http2; location / { return 200 ok; } }
}
N
spawn nginx.log nginx -p "$work" -c nginx.conf
opened "$s" nginx.log
head -c 60000 /dev/zero >large
many() { # many OPTIONS... prints the codes of 100 requests, 4 at a time
	seq 100 | xargs -P4 -I{} curl -sS -o /dev/null -w '%{http_code}\n' --cacert ca.crt \
		--resolve "shop.example:$edge:127.0.0.1" "$@" "https://shop.example:$edge/" 2>/dev/null | sort | uniq -c | line
}
for upstream in "https://localhost:$s" "h2c://127.0.0.1:$c"; do
	edge "s#upstreams:.*#upstreams: [\"$upstream\"]\n  upstream_ca: $work/ca.crt#"
	check "${upstream%%:*}, GET" "$(many)" ' 100 200|'
	check "${upstream%%:*}, POST" "$(many -d x)" ' 100 200|'
	check "${upstream%%:*}, PATCH with 60 kB" "$(many -X PATCH --data-binary @large)" ' 100 200|'
done
verdict
