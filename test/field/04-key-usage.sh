#!/bin/bash
# Usages that no server certificate has: refused by name, on all ways to a client.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
issue certs/agree.example DNS:agree.example keyUsage=critical,keyAgreement
issue certs/client.example DNS:client.example extendedKeyUsage=clientAuth
issue certs/mail.example DNS:mail.example extendedKeyUsage=emailProtection
issue certs/both.example DNS:both.example extendedKeyUsage=serverAuth,clientAuth
key rsa.key 2048
mkdir -p certs/sign.example
cp rsa.key certs/sign.example/tls.key
issue certs/sign.example DNS:sign.example keyUsage=critical,digitalSignature
origin
plane
envoy
edge
for host in agree.example client.example mail.example; do
	begin=$SECONDS
	check "$host" "$(status $host "$ondemand" /)" 000
	check "$host fails at once" "$((SECONDS - begin > 3))" 0
	check "$host at the edge" "$(status $host "$edge" /)" 000
	check "explain $host" "$(lockstep explain $host 2>&1 | line)" '*@(digitalSignature|serverAuth)*'
	check "cert list $host" "$(lockstep cert list 2>&1 | grep "^$host" | line)" '*@(digitalSignature|serverAuth)*'
done
for host in both.example sign.example; do
	check "$host" "$(status $host "$ondemand" /)$(status $host "$edge" /)" 200200
done
verdict
