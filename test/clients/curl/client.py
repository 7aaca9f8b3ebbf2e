"""A libcurl that makes a connection for each line on standard input. With Debian's python3-pycurl
it is the libcurl with GnuTLS, which Git has, too.

    client.py HOST PORT CA VERSION
"""
import sys

import pycurl

host, port, ca, version = sys.argv[1:5]
exact = {"1.2": (pycurl.SSLVERSION_TLSv1_2, pycurl.SSLVERSION_MAX_TLSv1_2),
         "1.3": (pycurl.SSLVERSION_TLSv1_3, pycurl.SSLVERSION_MAX_TLSv1_3)}[version]
curl = pycurl.Curl()  # it holds the sessions
curl.setopt(pycurl.URL, "https://%s:%s/" % (host, port))
curl.setopt(pycurl.RESOLVE, ["%s:%s:127.0.0.1" % (host, port)])
curl.setopt(pycurl.CAINFO, ca)
curl.setopt(pycurl.SSLVERSION, exact[0] | exact[1])
curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1)
curl.setopt(pycurl.FORBID_REUSE, 1)
curl.setopt(pycurl.WRITEFUNCTION, lambda _: None)

for _ in sys.stdin:
    try:
        curl.perform()
        status = curl.getinfo(pycurl.RESPONSE_CODE)
        print("ok" if status == 200 else "error: %d" % status, flush=True)
    except pycurl.error as e:
        print("error:", e, flush=True)
