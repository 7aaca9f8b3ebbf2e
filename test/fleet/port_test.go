package fleet

import (
	"fmt"
	"net"
	"os/exec"
	"sync"
	"testing"
)

// TestAPortIsFreeWhileProcessesStart: between fork and exec a child holds a copy of each open file,
// so a port that was looked at in that moment would stay taken for as long as that lasts.
func TestAPortIsFreeWhileProcessesStart(t *testing.T) {
	done := make(chan struct{})
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := exec.Command("true").Run(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	defer starting.Wait()
	defer close(done)
	for range 400 {
		port, err := Port()
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}
