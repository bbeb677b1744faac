package bus

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Inbox is the prefix of the subjects on which answers come to a connection of
// this name: each identity may subscribe to its own and to no other's.
func Inbox(name string) string { return "_INBOX_" + name }

// nkeyFile is an NKEY seed in a file that may be replaced while we run.
//
// The client reads a seed again for every signature, but takes the public key
// once and for all, so after a rotation it would show the old name with the new
// signature. There is no callback for the name; the dialer is called first
// thing in every attempt to connect, under the connection's own lock, and puts
// the present name where the client reads it.
type nkeyFile struct {
	path string
	conn atomic.Pointer[nats.Conn]
	dial net.Dialer
}

var _ nats.CustomDialer = (*nkeyFile)(nil)

// option is applied at every first connect, and reads the file then.
func (k *nkeyFile) option(o *nats.Options) error {
	public, err := k.public()
	if err != nil {
		return err
	}
	o.Nkey, o.SignatureCB, o.CustomDialer = public, k.sign, k
	return nil
}

// Dial connects, as the client does without a dialer of its own.
func (k *nkeyFile) Dial(network, address string) (net.Conn, error) {
	if nc := k.conn.Load(); nc != nil {
		public, err := k.public()
		if err != nil {
			return nil, err
		}
		nc.Opts.Nkey = public
	}
	return k.dial.Dial(network, address)
}

func (k *nkeyFile) pair() (nkeys.KeyPair, error) {
	b, err := os.ReadFile(k.path)
	if err != nil {
		return nil, fmt.Errorf("bus: nkey: %w", err)
	}
	defer clear(b)
	pair, err := nkeys.ParseDecoratedNKey(b)
	if err != nil {
		return nil, fmt.Errorf("bus: nkey %s: %w", k.path, err)
	}
	return pair, nil
}

func (k *nkeyFile) public() (string, error) {
	pair, err := k.pair()
	if err != nil {
		return "", err
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err == nil && !nkeys.IsValidPublicUserKey(public) {
		err = errors.New("is not the seed of a user: it begins with SU")
	}
	if err != nil {
		return "", fmt.Errorf("bus: nkey %s: %w", k.path, err)
	}
	return public, nil
}

func (k *nkeyFile) sign(nonce []byte) ([]byte, error) {
	pair, err := k.pair()
	if err != nil {
		return nil, err
	}
	defer pair.Wipe()
	return pair.Sign(nonce)
}

// newNKeyFile reads a seed from a file at every connect.
func newNKeyFile(path string) *nkeyFile {
	return &nkeyFile{path: path, dial: net.Dialer{Timeout: 5 * time.Second}}
}
