package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/lockstep-tls/lockstep/cmd/internal/bootstrap"
	"github.com/lockstep-tls/lockstep/cmd/internal/place"
)

// nodeConfig prints the configuration of a node. It finds lockstepd and an admin address where none
// was given.
func (a *app) nodeConfig(
	o bootstrap.Options, mtls bootstrap.TLS, dir string, write func(bootstrap.Options) ([]byte, error),
) error {
	if mtls != (bootstrap.TLS{}) {
		o.TLS = &mtls
	}
	missing := a.findXDS(&o, dir)
	if missing != nil {
		o.XDS = []string{"127.0.0.1:1"} // to say first what else is wrong
	}
	said, err := chooseAdmin(&o)
	if err != nil {
		return err
	}
	b, err := write(o)
	if err == nil {
		err = missing
	}
	if err != nil {
		return err
	}
	if words := bootstrap.Caution(o); words != "" {
		fmt.Fprintln(a.err, "warning:", words)
	}
	if said && bytes.Contains(b, []byte("\nadmin")) { // a snippet has none
		fmt.Fprintf(a.err, "admin address: %s (--admin names another)\n", o.Admin)
	}
	_, err = a.out.Write(b)
	return err
}

// findXDS fills in the address for nodes of the lockstepd of this machine, if none was given. A
// lockstepd leaves it in its data directory. That is dir, or the one of --data-dir if dir is empty
// or --data-dir was given.
func (a *app) findXDS(o *bootstrap.Options, dir string) error {
	if len(o.XDS) > 0 {
		return nil
	}
	if a.explicitDir || dir == "" {
		dir = a.dataDir
	}
	file := filepath.Join(dir, xdsFile)
	b, err := os.ReadFile(file)
	if err != nil {
		// a user who may not read the data of lockstepd may still reach its socket
		if at, found := sharedSocket(); found && !a.explicitDir {
			o.XDS = []string{at}
			return nil
		}
		const elsewhere = "if it runs on another machine or in another container, say where with --xds host:port"
		if errors.Is(err, fs.ErrNotExist) {
			return usage("no lockstepd has left its address for nodes in %s: start it, or name its directory "+
				"with --data-dir; %s", file, elsewhere)
		}
		return fmt.Errorf("%w; run this as the user that lockstepd runs as, or give --xds unix:/path; %s", err,
			elsewhere)
	}
	kind, addr, _ := strings.Cut(strings.TrimSpace(string(b)), ":")
	switch kind {
	case "unix":
		o.XDS = []string{"unix:" + addr}
		return nil
	case "tls":
		if o.TLS == nil {
			return usage("lockstepd asks nodes for certificates at %s: give --pki (lockstep pki), or --xds-ca, "+
				"--xds-cert and --xds-key", addr)
		}
	case "tcp":
	default:
		return fmt.Errorf("%s holds no address for nodes: restart lockstepd, which writes it, or give --xds", file)
	}
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return usage("lockstepd listens for nodes at %s: say by which name or address this node reaches it, with "+
			"--xds host:port", addr)
	}
	o.XDS = []string{addr}
	return nil
}

// sharedSocket returns the address of the socket that a lockstepd of this machine has for other
// users, if it is there.
func sharedSocket() (string, bool) {
	path, err := place.Socket(0, func(string) string { return "" })
	if err != nil {
		return "", false
	}
	st, err := os.Stat(path)
	return "unix:" + path, err == nil && st.Mode()&fs.ModeSocket != 0
}

// adminPort is the port of the first node's admin address.
const adminPort = 9901

var lastNumber = regexp.MustCompile(`[0-9]+$`)

// chooseAdmin gives a node an admin address on loopback if it has none. Nodes of one machine get
// ports of their own, also if none of them runs yet: a node whose id ends with a number begins at
// that one. A port on which something listens is left out.
func chooseAdmin(o *bootstrap.Options) (chosen bool, err error) {
	if o.Admin != "" {
		return false, nil
	}
	first := adminPort
	if n, err := strconv.Atoi(lastNumber.FindString(o.Node)); err == nil && n > 0 && n < 1000 {
		first += n - 1
	}
	for port := first; port < first+100; port++ {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		o.Admin = addr
		return true, nil
	}
	return false, fmt.Errorf("the ports %d to %d of 127.0.0.1 are taken: give --admin", first, first+99)
}
