package bus_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
)

// operated is a NATS server of an operator, with one account that may use
// JetStream.
type operated struct {
	*server.Server
	resolver *server.MemAccResolver
	operator nkeys.KeyPair
	pair     nkeys.KeyPair // of the account
	account  *jwt.AccountClaims
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newOperated(t *testing.T) *operated {
	t.Helper()
	o := &operated{resolver: &server.MemAccResolver{}, operator: must(nkeys.CreateOperator()), pair: must(nkeys.CreateAccount())}
	oc := jwt.NewOperatorClaims(must(o.operator.PublicKey()))
	system := must(must(nkeys.CreateAccount()).PublicKey())
	oc.SystemAccount = system
	oc = must(jwt.DecodeOperatorClaims(must(oc.Encode(o.operator))))
	if err := o.resolver.Store(system, must(jwt.NewAccountClaims(system).Encode(o.operator))); err != nil {
		t.Fatal(err)
	}
	o.account = jwt.NewAccountClaims(must(o.pair.PublicKey()))
	o.account.Limits.JetStreamLimits = jwt.JetStreamLimits{DiskStorage: 2 << 30, MemoryStorage: 64 << 20, Streams: 64, Consumer: 256}
	if err := o.resolver.Store(o.account.Subject, must(o.account.Encode(o.operator))); err != nil {
		t.Fatal(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: t.TempDir(), JetStreamMaxStore: 4 << 30, JetStreamMaxMemory: 128 << 20,
		TrustedOperators: []*jwt.OperatorClaims{oc}, AccountResolver: o.resolver, SystemAccount: system,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("server not ready in 30s")
	}
	o.Server = s
	return o
}

// user writes the credentials of a new user of the account, which an account
// signs, into a file, and returns the user's name.
func (o *operated) user(t *testing.T, file string, by nkeys.KeyPair, expires time.Time) string {
	t.Helper()
	pair := must(nkeys.CreateUser())
	claims := jwt.NewUserClaims(must(pair.PublicKey()))
	if !expires.IsZero() {
		claims.Expires = expires.Unix()
	}
	b := must(jwt.FormatUserConfig(must(claims.Encode(by)), must(pair.Seed())))
	// As a mounted Secret is replaced: at once.
	if err := os.WriteFile(file+".new", b, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	return claims.Subject
}

// revoke takes the right to connect from a user, as `nsc revocations add-user`
// and a push do.
func (o *operated) revoke(t *testing.T, user string) {
	t.Helper()
	o.account.Revoke(user)
	token := must(o.account.Encode(o.operator))
	if err := o.resolver.Store(o.account.Subject, token); err != nil {
		t.Fatal(err)
	}
	a := must(o.LookupAccount(o.account.Subject))
	o.UpdateAccountClaims(a, must(jwt.DecodeAccountClaims(token)))
}

// told is what a bus says of itself.
type told struct {
	mu    sync.Mutex
	ready bool
	why   string
	log   bytes.Buffer
}

func (s *told) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(p)
}

func (s *told) state(ready bool, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready, s.why = ready, why
}

func (s *told) now() (ready bool, why, log string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready, s.why, s.log.String()
}

// awaitRefusal waits until the bus says that it is refused because of a file,
// and checks that its log has not said so at every attempt. In the second of the
// expiry the server may let a user in once more.
func (s *told) awaitRefusal(t *testing.T, file, why string) {
	t.Helper()
	eventually(t, "not ready because of "+file, func() bool {
		ready, said, _ := s.now()
		return !ready && strings.Contains(said, file) && strings.Contains(said, why)
	})
	if _, _, log := s.now(); !strings.Contains(log, file) || strings.Count(log, "level=ERROR") > 2 {
		t.Errorf("the log says, and should say once, that %s is refused:\n%s", file, log)
	}
}

func (o *operated) connect(t *testing.T, file string, s *told, patient bool) (*bus.Bus, error) {
	t.Helper()
	cfg := bus.DefaultConfig()
	cfg.URL, cfg.Credentials, cfg.MaxBytes = o.ClientURL(), file, 1<<30
	b, err := bus.Connect(t.Context(), cfg, bus.Settings{Name: "test", Source: "//test/test", OnState: s.state, Patient: patient, Log: slog.New(slog.NewTextHandler(s, nil))})
	if err == nil {
		t.Cleanup(func() { _ = b.Close() })
	}
	return b, err
}

// passes sends a report of an incident through the bus and back.
func passes(t *testing.T, b *bus.Bus, incident string) {
	t.Helper()
	if err := b.Publish(t.Context(), event.ReportDrafted.Out(report(incident, 1))); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	found := errors.New("found")
	err := b.Read(ctx, event.Reports, bus.ReadOptions{Follow: true}, func(m bus.Message) error {
		if r, ok := m.Data.(event.Report); ok && r.Incident == incident {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Fatalf("the report of %s did not come back: %v", incident, err)
	}
}

func TestCredentialsThatAreReplacedAreTakenWithoutARestart(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	file := filepath.Join(t.TempDir(), "oncall.creds")
	old := o.user(t, file, o.pair, time.Time{})
	s := &told{}
	b, err := o.connect(t, file, s, false)
	if err != nil {
		t.Fatal(err)
	}
	passes(t, b, "before")
	o.revoke(t, old) // throws the connection out, too
	s.awaitRefusal(t, file, "are refused")
	o.user(t, file, o.pair, time.Time{})
	eventually(t, "ready with the new user", func() bool { ready, _, _ := s.now(); return ready })
	passes(t, b, "after")
}

func TestCredentialsThatExpireAreTakenFromTheFileAgain(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	file := filepath.Join(t.TempDir(), "oncall.creds")
	o.user(t, file, o.pair, time.Now().Add(5*time.Second))
	s := &told{}
	b, err := o.connect(t, file, s, true)
	if err != nil {
		t.Fatal(err)
	}
	s.awaitRefusal(t, file, "have expired at ")
	o.user(t, file, o.pair, time.Now().Add(time.Hour))
	eventually(t, "ready with what was renewed", func() bool { ready, _, _ := s.now(); return ready })
	passes(t, b, "renewed")
}

func TestCredentialsThatDoNotServeAreSaidWithTheirFile(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	stranger := must(nkeys.CreateAccount())
	mixed := func(t *testing.T, file string) {
		o.user(t, file, o.pair, time.Time{})
		b := must(os.ReadFile(file))
		seed := must(must(nkeys.ParseDecoratedNKey(b)).Seed())
		if err := os.WriteFile(file, bytes.ReplaceAll(b, seed, must(must(nkeys.CreateUser()).Seed())), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, tc := range map[string]struct {
		write func(t *testing.T, file string)
		want  string
	}{
		"an account that the servers do not know": {func(t *testing.T, file string) { o.user(t, file, stranger, time.Time{}) }, "are refused; put those of a user"},
		"a JWT that has expired":                  {func(t *testing.T, file string) { o.user(t, file, o.pair, time.Now().Add(-time.Hour)) }, "have expired at "},
		"the seed of another user":                {mixed, "the seed is not that of the user of the JWT"},
		"text": {func(t *testing.T, file string) {
			if err := os.WriteFile(file, []byte("not credentials\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "credentials"},
		"no file": {func(*testing.T, string) {}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "oncall.creds")
			tc.write(t, file)
			s := &told{}
			if _, err := o.connect(t, file, s, false); err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("connect: %v, want an error that names %s and says %q", err, file, tc.want)
			}
			// A service waits, and is let in once the file is right.
			connected := make(chan *bus.Bus, 1)
			go func() {
				b, err := o.connect(t, file, s, true)
				if err != nil {
					t.Error(err)
				}
				connected <- b
			}()
			s.awaitRefusal(t, file, tc.want)
			o.user(t, file, o.pair, time.Time{})
			if b := <-connected; b != nil {
				passes(t, b, event.Token(name))
			}
		})
	}
}
