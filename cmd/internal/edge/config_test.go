package edge

import (
	"testing"

	"github.com/spf13/pflag"
)

// The file says what the defaults are, and is read.
func TestTheExampleIsTheDefault(t *testing.T) {
	c := Default()
	f := pflag.NewFlagSet("edge", pflag.ContinueOnError)
	c.Flags(f)
	if err := c.Load("../../../deploy/edge/edge.yaml", f, func(string) string { return "" }); err != nil {
		t.Fatal(err)
	}
	if d := Default(); c.Limits != d.Limits || c.Timeouts != d.Timeouts || c.TicketLifetime != d.TicketLifetime || c.AdminListen != d.AdminListen {
		t.Errorf("%+v %+v is not %+v %+v", c.Limits, c.Timeouts, d.Limits, d.Timeouts)
	}
	if len(c.Listeners) != 1 || c.Listeners[0].Scope != "default" {
		t.Errorf("%+v", c.Listeners)
	}
}
