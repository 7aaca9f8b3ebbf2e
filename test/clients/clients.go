package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// client is a program of others, with a driver in the folder of its name. A driver makes one
// connection for each line that it is sent, and says "ok" or what failed. It keeps the sessions.
type client struct {
	name string // name is that in the table.
	// version is a command whose first line says which version this is.
	version []string
	// build is a command that is needed first. "DIR" stands for a folder for what it makes.
	build []string
	// command starts the driver. Its arguments follow: host, port, file of the CA, version, folder.
	command []string
	// alone is true if the driver waits for no line: connections are let through one at a time.
	alone bool
	// early is true if it can offer early data.
	early bool
}

var clients = []client{
	{name: "OpenSSL", version: []string{"openssl", "version"}, command: []string{"openssl/client.sh"}, early: true},
	{name: "curl", version: []string{"curl", "--version"}, command: []string{"curl/client.sh"}, alone: true},
	{name: "libcurl with GnuTLS", version: []string{"/usr/bin/python3", "-c", "import pycurl; " +
		"print(pycurl.version.split(' zlib')[0].split(' ', 1)[1].replace('/', ' ').replace(' Gnu', ' with Gnu'))"},
		command: []string{"/usr/bin/python3", "curl/client.py"}},
	{name: "GnuTLS", version: []string{"gnutls-cli", "--version"},
		build:   []string{"cc", "-O1", "-o", "DIR/gnutls", "gnutls/client.c", "-lgnutls"},
		command: []string{"DIR/gnutls"}, early: true},
	{name: "Python", version: []string{"python3", "-c", "import platform, ssl; " +
		"print('Python', platform.python_version(), 'with', ssl.OPENSSL_VERSION)"},
		command: []string{"python3", "python/client.py"}},
	{name: "Java", version: []string{"java", "--version"},
		build:   []string{"javac", "-d", "DIR/java", "java/Client.java"},
		command: []string{"java", "-cp", "DIR/java", "Client"}},
	{name: "Node.js", version: []string{"node", "-p", "'Node.js ' + process.version"},
		command: []string{"node", "node/client.js"}},
	{name: "rustls", version: []string{"cargo", "tree", "--manifest-path", "rustls/Cargo.toml", "--depth", "0",
		"-p", "rustls"},
		build: []string{"cargo", "build", "--release", "--locked", "--quiet", "--manifest-path", "rustls/Cargo.toml",
			"--target-dir", "DIR/rustls"},
		command: []string{"DIR/rustls/release/client"}, early: true},
	{name: "Chromium", version: []string{"chromium", "--version"},
		command: []string{"python3", "browser/client.py", "chromium"}, early: true},
	{name: "Firefox", version: []string{"firefox-esr", "--version"},
		command: []string{"python3", "browser/client.py", "firefox"}, early: true},
}

// says returns which version of the client this is. The error says what is missing.
func (c client) says(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, c.version[0], c.version[1:]...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", c.version[0], err)
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		line, _, _ = strings.Cut(line, " (")
		line, _, _ = strings.Cut(line, " built on ")
		return strings.TrimSpace(line), nil
	}
	return "", fmt.Errorf("%s prints nothing", strings.Join(c.version, " "))
}

func within(args []string, dir string) (out []string) {
	for _, a := range args {
		out = append(out, strings.Replace(a, "DIR", dir, 1))
	}
	return out
}

// prepare builds the driver.
func (c client) prepare(ctx context.Context, sources, dir string) error {
	if c.build == nil {
		return nil
	}
	args := within(c.build, dir)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = sources
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// driver is a driver that runs.
type driver struct {
	client
	*address
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	log   string
}

// start starts the driver of c for a TLS version. It makes n connections at most.
func (c client) start(sources, built, dir, host, ca, version string, n int, more ...string) (_ *driver, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	d := &driver{client: c, lines: make(chan string, n), log: filepath.Join(dir, "log")}
	if d.address, err = listen(); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(d.Addr().String())
	if err != nil {
		return nil, err
	}
	args := append(within(c.command, built), host, port, ca, version, dir)
	if c.alone {
		args = append(args, strconv.Itoa(n))
	}
	args = append(args, more...)
	if strings.HasSuffix(args[0], ".sh") {
		args = append([]string{"sh"}, args...)
	}
	d.cmd = exec.Command(args[0], args[1:]...)
	d.cmd.Dir = sources
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd.Stderr = log
	if d.in, err = d.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			d.lines <- s.Text()
		}
	}()
	return d, nil
}

// patience is how long a client may take for a connection. A browser starts meanwhile.
const patience = 90 * time.Second

// visit has the client make a connection to node. The error says that it did not succeed.
func (d *driver) visit(node string) ([]seen, error) {
	n := enough
	if d.alone {
		n = 1
	}
	d.point(node, n)
	if !d.alone {
		if _, err := io.WriteString(d.in, "go\n"); err != nil {
			return nil, err
		}
	}
	var err error
	select {
	case line, ok := <-d.lines:
		switch {
		case !ok:
			text, _ := os.ReadFile(d.log)
			err = fmt.Errorf("%s has ended: %.400s", d.name, text)
		case line != "ok":
			err = fmt.Errorf("%s: %s", d.name, line)
		}
	case <-time.After(patience):
		err = fmt.Errorf("%s says nothing for %s", d.name, patience)
	}
	return d.settle(), err
}

// stop ends the driver and what it started.
func (d *driver) stop() {
	d.in.Close()
	d.address.Close()
	syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	d.cmd.Wait()
}
