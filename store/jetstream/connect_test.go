package jetstream

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/lockstep-tls/lockstep/test/fleet"
)

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEachKindOfSecretOpensTheConnection(t *testing.T) {
	for name, guard := range map[string]func(t *testing.T, o *server.Options) Config{
		"password": func(t *testing.T, o *server.Options) Config {
			o.Username, o.Password = "me", "hunter2"
			return Config{User: "me", PasswordFile: file(t, "password", []byte("hunter2\n"))}
		},
		"token": func(t *testing.T, o *server.Options) Config {
			o.Authorization = "hunter2"
			return Config{TokenFile: file(t, "token", []byte("hunter2\n"))}
		},
		"nkey": func(t *testing.T, o *server.Options) Config {
			seed, public := pair(t, nkeys.CreateUser)
			o.Nkeys = []*server.NkeyUser{{Nkey: public}}
			return Config{NKeyFile: file(t, "nkey", seed)}
		},
		"creds":              creds,
		"client certificate": clientCert,
	} {
		t.Run(name, func(t *testing.T) {
			var with Config
			with.Servers = []string{single(t, func(o *server.Options) { with = guard(t, o) })}
			without := Config{Servers: with.Servers, CAFile: with.CAFile}
			if err := with.check(); err != nil {
				t.Fatal(err)
			}
			conn, err := with.connect(func(error) {})
			if err != nil {
				t.Fatal(err)
			}
			conn.Close()
			if err := without.check(); err != nil {
				t.Fatal(err)
			}
			if conn, err := without.connect(func(error) {}); err == nil {
				conn.Close()
				t.Error("the server lets in whoever comes")
			}
		})
	}
}

func pair(t *testing.T, create func() (nkeys.KeyPair, error)) (seed []byte, public string) {
	t.Helper()
	k, err := create()
	if err != nil {
		t.Fatal(err)
	}
	if seed, err = k.Seed(); err != nil {
		t.Fatal(err)
	}
	if public, err = k.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return seed, public
}

// creds sets a server up with an operator, an account and a user.
func creds(t *testing.T, o *server.Options) Config {
	operatorSeed, operator := pair(t, nkeys.CreateOperator)
	accountSeed, account := pair(t, nkeys.CreateAccount)
	userSeed, user := pair(t, nkeys.CreateUser)
	sign := func(seed []byte, claims interface {
		Encode(nkeys.KeyPair) (string, error)
	}) string {
		key, err := nkeys.FromSeed(seed)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := claims.Encode(key)
		if err != nil {
			t.Fatal(err)
		}
		return signed
	}
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(account, sign(operatorSeed, jwt.NewAccountClaims(account))); err != nil {
		t.Fatal(err)
	}
	trusted, err := jwt.DecodeOperatorClaims(sign(operatorSeed, jwt.NewOperatorClaims(operator)))
	if err != nil {
		t.Fatal(err)
	}
	o.TrustedOperators, o.AccountResolver, o.JetStream = []*jwt.OperatorClaims{trusted}, resolver, false
	config, err := jwt.FormatUserConfig(sign(accountSeed, jwt.NewUserClaims(user)), userSeed)
	if err != nil {
		t.Fatal(err)
	}
	return Config{CredsFile: file(t, "user.creds", config)}
}

func clientCert(t *testing.T, o *server.Options) Config {
	ca, err := fleet.NewCA("test CA")
	if err != nil {
		t.Fatal(err)
	}
	of, err := ca.Issue(fleet.Leaf{Names: []string{"nats"}, IPs: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(of.Chain, of.Key)
	if err != nil {
		t.Fatal(err)
	}
	o.TLSConfig = &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	}
	return Config{
		CAFile:   file(t, "ca.crt", ca.PEM()),
		CertFile: file(t, "tls.crt", of.Chain), KeyFile: file(t, "tls.key", of.Key),
	}
}

func TestAChangedPasswordIsReadAtTheNextConnect(t *testing.T) {
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true,
		NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
		Username: "me", Password: "old"}
	n, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	n.Start()
	t.Cleanup(func() { n.Shutdown(); n.WaitForShutdown() })
	if !n.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	path := file(t, "password", []byte("old"))
	s := open(t, Config{Servers: []string{n.ClientURL()}, User: "me", PasswordFile: path, Replicas: 1})
	put(t, s, "a/x", 0, "v")
	changed := o.Clone()
	changed.Password = "new"
	if err := n.ReloadOptions(changed); err != nil { // which cuts the connection
		t.Fatal(err)
	}
	if val, _, err := s.Get(t.Context(), "a/x"); err == nil {
		t.Fatalf("Get = %q with a password that was revoked", val)
	}
	if err := os.WriteFile(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, func() error { _, _, err := s.Get(t.Context(), "a/x"); return err })
}

func TestASecretThatCannotBeReadIsSaidAtOnce(t *testing.T) {
	empty, none := file(t, "empty", []byte("\n")), filepath.Join(t.TempDir(), "none")
	for _, cfg := range []Config{
		{User: "me", PasswordFile: none}, {User: "me", PasswordFile: empty},
		{TokenFile: none}, {CredsFile: none}, {NKeyFile: none},
		{CAFile: none}, {CertFile: none, KeyFile: none},
	} {
		cfg.Servers = []string{"nats://127.0.0.1:1"}
		if _, err := Open(t.Context(), cfg); err == nil ||
			!strings.Contains(err.Error(), none) && !strings.Contains(err.Error(), empty) {
			t.Errorf("Open = %v, want the name of the file", err)
		}
	}
}
