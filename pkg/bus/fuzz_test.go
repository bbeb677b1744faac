package bus

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// FuzzCredentials: whatever stands in a file of credentials or of a key, it is
// taken or refused with the name of the file, and never with its content.
func FuzzCredentials(f *testing.F) {
	account, err := nkeys.CreateAccount()
	if err != nil {
		f.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		f.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		f.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		f.Fatal(err)
	}
	token, err := jwt.NewUserClaims(public).Encode(account)
	if err != nil {
		f.Fatal(err)
	}
	whole, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(seed)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("-----BEGIN NATS USER JWT-----\n.\n------END NATS USER JWT------\n"))
	f.Add([]byte{})
	file := filepath.Join(f.TempDir(), "file")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		refused := func(what string, err error) {
			if !strings.Contains(err.Error(), file) {
				t.Errorf("%s: %v: does not name its file", what, err)
			}
			if len(b) > 40 && strings.Contains(err.Error(), string(b)) {
				t.Errorf("%s: the error shows what stands in the file: %v", what, err)
			}
		}
		c := &credsFile{path: file}
		if read, pair, err := c.read(); err != nil {
			refused("credentials", err)
			if _, ok := errors.AsType[*badFile](err); !ok {
				t.Errorf("credentials: %v: is no badFile", err)
			}
		} else {
			pair.Wipe()
			if read == "" {
				t.Error("credentials without a token are taken")
			}
		}
		if public, err := newNKeyFile(file).public(); err != nil {
			refused("nkey", err)
		} else if !nkeys.IsValidPublicUserKey(public) {
			t.Errorf("nkey: %q is taken for a user's", public)
		}
	})
}
