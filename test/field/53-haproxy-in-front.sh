#!/bin/bash
# HAProxy passes TLS on with the PROXY protocol, and checks the nodes.
. "$(dirname "$0")/lib.sh"
need haproxy
issue certs/shop.example DNS:shop.example
origin
plane
edge 's#^- address: .*#&\n  proxy_protocol: [127.0.0.0/8]\n  health_path: /-/healthy#'
port front
port other
cat >haproxy.cfg <<N
global
	stats socket $work/haproxy.sock
defaults
	mode tcp
	timeout connect 2s
	timeout client 10s
	timeout server 10s
frontend one
	bind 127.0.0.1:$front
	default_backend two
frontend three
	bind 127.0.0.1:$other
	default_backend one
backend two
	option httpchk GET /-/healthy
	default-server check check-ssl verify none check-send-proxy inter 300ms
	server a 127.0.0.1:$edge send-proxy-v2
backend one
	option httpchk
	http-check send meth GET uri /-/healthy ver HTTP/1.1 hdr Host 10.0.0.1
	default-server check check-ssl verify none check-send-proxy inter 300ms check-sni shop.example
	server a 127.0.0.1:$edge send-proxy
N
spawn haproxy.log haproxy -db -f haproxy.cfg
opened "$front" haproxy.log
for p in $front $other; do
	within 5 answers 200 shop.example "$p"
	check 'clients through it' $? 0
done
sleep 1
check 'no check has failed' "$(grep -ciE 'is DOWN|check.*failed' haproxy.log)" 0
check 'the balancer is in the log' "$(grep -c '"balancer":"127.0.0.1' edge.log)" '[1-9]*'
verdict
