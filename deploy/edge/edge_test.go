package edge

import (
	"os"
	"testing"

	"github.com/spf13/pflag"

	"github.com/lockstep-tls/lockstep/cmd/internal/edge"
)

// The file says what the defaults are, and is read.
func TestTheExampleIsTheDefault(t *testing.T) {
	c := edge.Default()
	f := pflag.NewFlagSet("edge", pflag.ContinueOnError)
	c.Flags(f)
	if err := c.Load("edge.yaml", f, func(string) string { return "" }); err != nil {
		t.Fatal(err)
	}
	if d := edge.Default(); c.Limits != d.Limits || c.Timeouts != d.Timeouts || c.TicketLifetime != d.TicketLifetime || c.AdminListen != d.AdminListen {
		t.Errorf("%+v %+v is not %+v %+v", c.Limits, c.Timeouts, d.Limits, d.Timeouts)
	}
	if _, err := os.Stat("edge.yaml"); err != nil || len(c.Listeners) != 1 || c.Listeners[0].Scope != "default" {
		t.Errorf("%v %+v", err, c.Listeners)
	}
}
