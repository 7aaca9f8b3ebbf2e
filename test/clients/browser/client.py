"""A browser that makes a connection for each line on standard input.

A page, served here, asks for the next address and fetches it. So the browser lives on, and with it
its sessions.

    client.py chromium|firefox HOST PORT CA VERSION DIR [early]
"""
import http.server
import os
import queue
import subprocess
import sys
import threading

which, host, port, ca, version, home = sys.argv[1:7]
todo, done = queue.Queue(), queue.Queue()

PAGE = b"""<!doctype html><script>
(async () => {
  for (;;) {
    const url = await (await fetch('/next', {cache: 'no-store'})).text();
    let said = 'ok';
    try {
      const r = await fetch(url, {cache: 'no-store', mode: 'no-cors'});
      await r.text();
    } catch (e) { said = 'error: ' + e; }
    await fetch('/done', {method: 'POST', body: said});
  }
})();
</script>"""


class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body, kind="text/plain"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/next":
            self.answer(todo.get().encode())
        elif self.path == "/":
            self.answer(PAGE, "text/html")
        else:
            self.send_error(404)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(b"")
        done.put(body.decode())

    def log_message(self, *_):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()


def trust(db):
    subprocess.run(["certutil", "-d", "sql:" + db, "-N", "--empty-password"], check=True)
    subprocess.run(["certutil", "-d", "sql:" + db, "-A", "-t", "C,,", "-n", "ca", "-i", ca], check=True)


def chromium():
    db = os.path.join(home, ".pki", "nssdb")
    os.makedirs(db)
    trust(db)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--no-proxy-server", "--user-data-dir=" + os.path.join(home, "data"),
             "--host-resolver-rules=MAP %s 127.0.0.1" % host]
    if version == "1.2":
        flags.append("--ssl-version-max=tls1.2")
    if "early" in sys.argv[7:]:  # it is off by default
        flags.append("--enable-features=EnableTLS13EarlyData")
    return ["chromium", *flags]


def firefox():
    profile = os.path.join(home, "profile")
    os.makedirs(profile)
    trust(profile)
    prefs = {
        "network.dns.localDomains": '"%s"' % host,
        "network.proxy.type": 0,
        "network.captive-portal-service.enabled": "false",
        "network.connectivity-service.enabled": "false",
        "browser.shell.checkDefaultBrowser": "false",
        "datareporting.policy.dataSubmissionEnabled": "false",
        "app.update.auto": "false",
        "security.tls.version.max": 3 if version == "1.2" else 4,
        "security.tls.enable_0rtt_data": str("early" in sys.argv[7:]).lower(),  # it is on by default
    }
    with open(os.path.join(profile, "user.js"), "w") as f:
        for name, value in prefs.items():
            f.write('user_pref("%s", %s);\n' % (name, value))
    return ["firefox-esr", "--headless", "--no-remote", "--profile", profile]


log = open(os.path.join(home, "browser.log"), "wb")
browser = subprocess.Popen(
    [*{"chromium": chromium, "firefox": firefox}[which](), "http://127.0.0.1:%d/" % server.server_port],
    env={**os.environ, "HOME": home}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
try:
    for n, _ in enumerate(sys.stdin):
        todo.put("https://%s:%s/%d" % (host, port, n))
        try:
            print(done.get(timeout=60), flush=True)
        except queue.Empty:
            print("error: the browser says nothing", flush=True)
finally:
    browser.kill()
    browser.wait()
