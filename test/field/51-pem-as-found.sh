#!/bin/bash
# PEM as programs and people write it: put in order with a note, or refused by name. Nothing is
# dropped in silence.
. "$(dirname "$0")/lib.sh"
ca int 'Field Intermediate' ca
by=int issue new DNS:shop.example
leaf=new/tls.crt
key=new/tls.key
key stranger.key
openssl req -x509 -new -key stranger.key -days 9 -subj '/CN=Stranger' -out stranger.crt 2>/dev/null
cat $leaf int.crt >chain
plane
# try WHAT FILE WANTED stores a chain. It compares the exit code, how many certificates are stored,
# and the words.
try() {
	lockstep cert put shop.example --cert "$2" --key $key >out 2>&1
	local code=$? sent
	sent=$(lockstep cert get shop.example 2>/dev/null | grep -c 'BEGIN CERTIFICATE')
	[ $code = 0 ] && lockstep cert rm shop.example >/dev/null 2>&1
	check "$1" "$code $sent $(line <out)" "$3"
}
taken='0 2 *'
try 'as it should be' chain "$taken"
sed 's/CERTIFICATE/X509 CERTIFICATE/' chain >f && try 'X509 CERTIFICATE' f "$taken"
{ cat $leaf; sed 's/CERTIFICATE/X509 CERTIFICATE/' int.crt; } >f && try 'X509 for the intermediate' f "$taken"
openssl x509 -in $leaf -trustout -addtrust serverAuth >f && cat int.crt >>f && try 'TRUSTED CERTIFICATE' f "$taken"
{ printf '\xef\xbb\xbf'; cat chain; } >f && try 'a byte order mark' f "$taken"
sed 's/$/\r/' chain >f && try 'CRLF' f "$taken"
tr '\n' '\r' <chain >f && try 'CR alone' f "$taken"
iconv -f utf-8 -t utf-16 chain >f && try 'UTF-16' f "$taken"
iconv -f utf-8 -t utf-16be chain >f && try 'UTF-16, big end first, unmarked' f "@($taken|[1-9]*UTF-16*)"
openssl pkcs12 -export -in chain -inkey $key -passout pass: -out f.p12
openssl pkcs12 -in f.p12 -passin pass: -nokeys >f 2>/dev/null && try 'bag attributes' f "$taken"
{ printf %s "$(cat $leaf)"; cat int.crt; } >f && try 'no line break between' f "$taken"
printf %s "$(cat chain)" >f && try 'no line break at the end' f "$taken"
{ cat chain; cat $leaf; } >f && try 'the leaf twice' f "$taken"
{ cat chain; cat ca.crt; } >f && try 'the root at the end' f '0 [23] *'
{ cat ca.crt int.crt $leaf; } >f && try 'the other way round' f '0 [23] *'
{ cat int.crt $leaf; } >f && try 'the intermediate first' f "$taken"
sed 's/^/  /' chain >f && try 'indented' f "$taken"
{ openssl x509 -in $leaf -noout -text; cat chain; } >f && try 'text before it' f "$taken"
tr '\n' ' ' <chain | sed 's/- /-\n/g; s/ -/\n-/g' >f && try 'one long line' f "$taken"
{ cat chain; openssl ecparam -name prime256v1; } >f && try 'EC parameters' f "$taken"
{ cat chain stranger.crt; } >f && try 'a stranger in it' f '[1-9]*Stranger*'
{ cat $leaf; sed 's/CERTIFICATE/NOVELTY/' int.crt; } >f && try 'an unknown label' f "@($taken|[1-9]*NOVELTY*)"
{ cat $leaf; head -5 int.crt; } >f && try 'half of an intermediate' f '[1-9]*'
openssl crl2pkcs7 -nocrl -certfile chain >f && try 'PKCS#7' f "@($taken|[1-9]*openssl pkcs7*)"
openssl crl2pkcs7 -nocrl -certfile chain -outform der >f && try 'PKCS#7, DER' f '[1-9]*openssl pkcs7*'
openssl x509 -in $leaf -outform der >f && try 'DER' f '[1-9]*openssl x509*'
cp f.p12 f && try 'PKCS#12' f '[1-9]*openssl pkcs12*'
: >f && try 'an empty file' f '[1-9]*'
cp int.crt f && try 'the intermediate alone' f '[1-9]*'
verdict
