#!/bin/bash
# Renewals change what Envoy's session context holds, or do not. plan agrees with Envoy.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example,URI:spiffe://t/a
origin
plane
envoy shop.example
try() { # try WHAT SANS renews, and compares what plan says with what Envoy does
	local plan seen
	rm -rf new
	mkdir new
	cp certs/shop.example/tls.key new
	issue new "$2"
	session "$eager" tls1_2 -sess_out s >/dev/null
	check "$1: resumes before" "$(session "$eager" tls1_2 -sess_in s)" Reused
	plan=$(lockstep plan --cert shop.example --chain new/tls.crt -o json 2>&1 | tr -d '\n ' |
		grep -oE '"ends_tickets":(true|false)')
	cp new/tls.crt certs/shop.example/.new
	mv certs/shop.example/.new certs/shop.example/tls.crt
	within 15 serves "$eager" shop.example new/tls.crt || wrong "$1: Envoy does not get it"
	seen=$(session "$eager" tls1_2 -sess_in s)
	check "$1: $plan, $seen" "$plan/$seen" '@("ends_tickets":true/New|"ends_tickets":false/Reused)'
}
try 'the same again' DNS:shop.example,URI:spiffe://t/a
try 'another URI' DNS:shop.example,URI:spiffe://t/b
try 'no URI' DNS:shop.example
try 'an address' DNS:shop.example,IP:192.0.2.1
try 'one more name' DNS:shop.example,DNS:www.shop.example
try 'other order' DNS:www.shop.example,DNS:shop.example
try 'a mail address' DNS:www.shop.example,DNS:shop.example,email:a@shop.example
subject=/CN=shop.example try 'another common name' DNS:www.shop.example,DNS:shop.example
subject=/CN=shop.example/CN=two.example try 'two common names' DNS:www.shop.example,DNS:shop.example
subject=/CN=two.example/CN=shop.example try 'in another order' DNS:www.shop.example,DNS:shop.example
subject=/O=Acme/CN=two.example try 'one of them and an organization' DNS:www.shop.example,DNS:shop.example
verdict
