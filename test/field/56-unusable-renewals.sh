#!/bin/bash
# Renewals that no client takes come one after the other. Each is named, and the one before is
# served on, by a real Envoy and the edge.
. "$(dirname "$0")/lib.sh"
host=shop.example
issue certs/$host "DNS:$host,DNS:www.$host"
issue certs/few.example 'DNS:few.example,DNS:www.few.example'
cp certs/$host/tls.crt good.crt
cp certs/$host/tls.key good.key
origin
plane
edge
envoy $host few.example
both() { echo "$(status $host "$edge" /)$(status $host "$eager" /)"; }
check before "$(both)" 200200
kept() { serves "$edge" $host good.crt && serves "$eager" $host good.crt; }
named() { lockstep cert list | grep "^$host" | grep -q "$1"; }

# unusable WORDS makes the renewal in the folder new take the place of the good one.
unusable() {
	cat new/tls.key >certs/$host/tls.key
	cat new/tls.crt >certs/$host/tls.crt
	within 15 named "$1"
	check "$1 is named" $? 0
	check "after $1" "$(both) $(kept && echo kept)" '200200 kept'
	rm -r new
	cat good.key >certs/$host/tls.key
	cat good.crt >certs/$host/tls.crt
	within 15 lacks_problem
	check "repaired after $1" $? 0
}
lacks_problem() { ! lockstep cert list | grep "^$host" | grep -q 'bad certificate'; }

mkdir new
key new/tls.key 1024
issue new "DNS:$host"
unusable 'RSA of 1024 bits'
mkdir new
key new/tls.key
openssl req -new -key new/tls.key -subj /CN=leaf 2>/dev/null |
	openssl x509 -req -sha1 -CA ca.crt -CAkey ca.key -CAcreateserial -days 20 -out new/tls.crt \
		-extfile <(echo "subjectAltName=DNS:$host") 2>/dev/null
unusable 'weak-signature'
issue new "DNS:$host" 'keyUsage=critical,keyAgreement'
unusable 'key-usage'
issue new "DNS:$host" 'extendedKeyUsage=clientAuth'
unusable 'extended-key-usage'
issue new "DNS:$host" 'tlsfeature=status_request'
unusable 'must-staple'

# One with fewer names serves, and is warned of. It is another host: of one, events are bounded.
host=few.example
issue new "DNS:$host"
cat new/tls.key >certs/$host/tls.key
cat new/tls.crt >certs/$host/tls.crt
within 15 named "warning: it is not for www.$host"
check 'fewer names' $? 0
within 15 serves "$eager" $host new/tls.crt
check 'fewer names are served' "$? $(both)" '0 200200'
check status "$(lockstep -o json status 2>&1 | grep -c certificate-worse)" '[1-9]*'
recorded() { lockstep -o json events --host $host | grep -q "warning: it is not for www.$host"; }
within 15 recorded
check events $? 0
verdict
