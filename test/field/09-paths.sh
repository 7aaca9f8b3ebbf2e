#!/bin/bash
# Paths arrive at upstreams byte for byte, or are refused.
. "$(dirname "$0")/lib.sh"
issue certs/shop.example DNS:shop.example
origin
plane
edge
ask() { # ask PATH prints the path that arrived, or the code
	printf 'GET %s HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n' "$1" | raw shop.example "$edge" >out
	local code
	code=$(head -1 out | cut -d' ' -f2)
	[ "$code" != 200 ] && echo "$code" || grep -a '^GET' out | sed 's/^GET //; s/ HTTP\/1.1\r*$//'
}
for path in '/p/a%2Fb%7e' '/p/a%2Fb%7e|{c}^' $'/p/a%2Fb/\xc3\xa4' '/p/a%2Fb"x' '/p/`a%2Fb' '/p/a%2fb[1]<x>' \
	'/a%20b' '/%41' '/a;b=c' '/a//b' '//a' '/a?' '/a??b' '/a?x=%zz' '/a?q=a|b^"{c}' '/a%2c,b' "/a'b" '/a!$&()*+:@' \
	'/%E4' '/a%3fb' '/a%25b' '/a?b=/../c' '/*' '/a?b#c' '/a=%26' '/~%7E' $'/\xff' \
	'/a%00b' '/%c0%ae' '/a\b' '/a/.b' '/a/...'; do
	seen=$(ask "$path")
	[ "$seen" = "$path" ] || [ "$seen" = 400 ] || faults+=("$path: $seen")
	[ "$seen" = "$path" ] && notes+=("$path")
done
check 'most arrive' "$((${#notes[@]} > 20))" 1
for path in /public/../admin /public/%2e%2e/admin /public/%2E%2E%2fadmin '/public/..;/admin' '/public/..%5cadmin' \
	'/a#b' '/a/./b'; do
	check "$path" "$(ask "$path")" 400
done
verdict
