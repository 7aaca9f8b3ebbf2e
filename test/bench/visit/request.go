package visit

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

func request(c Command, held []net.Conn) (int, error) {
	var all atomic.Int64
	var g errgroup.Group
	end := time.Now().Add(c.Time)
	for i, conn := range held {
		g.Go(func() error {
			get, r := get(c.name(i)), bufio.NewReader(conn)
			n := int64(0)
			for ; time.Now().Before(end); n++ {
				if _, err := conn.Write(get); err != nil {
					return err
				}
				if err := answer(r); err != nil {
					return err
				}
			}
			all.Add(n)
			return nil
		})
	}
	err := g.Wait()
	return int(all.Load()), err
}

// get is what a client sends that says a little of itself.
func get(host string) []byte {
	return []byte("GET /some/path?with=a&query HTTP/1.1\r\nHost: " + host + "\r\n" +
		"User-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n")
}

var length, colon = []byte("content-length"), []byte(":")

// answer reads a response, which must be a 200 with a length.
func answer(r *bufio.Reader) error {
	status, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("the answer is %q", status)
	}
	body := -1
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if name, value, _ := bytes.Cut(line, colon); bytes.EqualFold(name, length) {
			if body, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	if body < 0 {
		return fmt.Errorf("the answer has no length")
	}
	_, err = r.Discard(body)
	return err
}
