package sds

import (
	"testing"
	"time"

	"github.com/lockstep-tls/lockstep/internal/expiry"
)

// TestWhatNodesWereSentIsCountedByHowLongItLives: with five hours left, a certificate of a day is
// near its end, and one of ten hours is not.
func TestWhatNodesWereSentIsCountedByHowLongItLives(t *testing.T) {
	now := time.Now()
	table := NewTable(Config{})
	for name, c := range map[string]struct{ life, left time.Duration }{
		"fresh.example": {10 * time.Hour, 5 * time.Hour}, "near.example": {24 * time.Hour, 5 * time.Hour},
		"urgent.example": {24 * time.Hour, 2 * time.Hour}, "over.example": {24 * time.Hour, -time.Hour},
		"lasting.example": {90 * 24 * time.Hour, 40 * 24 * time.Hour},
	} {
		table.certs[name] = &entry{notAfter: now.Add(c.left).Unix(), life: uint32(c.life / time.Second)}
	}
	table.certs["absent.example"] = &entry{}
	got := table.Ends(now)
	if got[expiry.Good] != 2 || got[expiry.Near] != 1 || got[expiry.Last] != 1 || got[expiry.Expired] != 1 {
		t.Errorf("%v", got)
	}
}
