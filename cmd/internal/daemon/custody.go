package daemon

import (
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
