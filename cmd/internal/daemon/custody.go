package daemon

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-tls/lockstep/cmd/internal/advice"
	"github.com/lockstep-tls/lockstep/seal/custody"
)

// openCustody makes the custodian of the store's seal.
func (d *Daemon) openCustody() {
	v := d.data.Vault
	d.custody = custody.New(custody.Config{
		Store: v.Store, Raw: v.Raw, Sealer: v.Sealer, Replica: d.data.Replica, Refresh: d.cfg.Refresh, Log: d.log,
		Commands: custody.Commands{Status: "lockstep kek status", Retire: "lockstep kek rotate --file COPY --retire"},
	})
	if v.Damage != nil {
		d.log.Error("the canary of the sealing key", "err", v.Damage)
		d.custody.SetCanary(v.Damage)
	}
}

// sealComplaints says, for people, what is wrong with the sealing of the store, and that it is
// frozen.
func (d *Daemon) sealComplaints() (out []string) {
	st := d.custody.Status()
	if st.Canary != nil {
		out = append(out, fmt.Sprintf("the store's canary does not open: %v", st.Canary))
	}
	if st.Err != nil {
		out = append(out, fmt.Sprintf("the sealing key cannot be looked after: %v", advice.Add(st.Err)))
	}
	if n := len(st.Work.Bad); n > 0 && !st.Work.Underway {
		out = append(out, fmt.Sprintf("records open with no sealing key "+
			"(lockstep kek status names them): %v", st.Work.Bad))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if n, frozen, err := d.data.Vault.Raw.Frozen(ctx); err == nil && frozen {
		out = append(out, fmt.Sprintf("the store is frozen, nothing changes and no key rotates: %s", n)+advice.Frozen)
	}
	return out
}
