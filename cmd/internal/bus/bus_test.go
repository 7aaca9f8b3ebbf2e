package bus

import (
	"log/slog"
	"strings"
	"testing"
)

func TestAURLThatCannotBeReadIsNotShown(t *testing.T) {
	for _, at := range []string{"nats://me:se%cret@a:4222", "nats://b:4222,nats://me:se/cret@a:4222"} {
		b, err := Open(Config{Events: at, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			b.Close()
			t.Errorf("%s was taken", at)
		} else if strings.Contains(err.Error(), "cret") || !strings.Contains(err.Error(), "%40") {
			t.Error(err)
		}
	}
}
