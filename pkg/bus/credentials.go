package bus

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/nats-io/jwt/v2"
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

// credsFile is a user's JWT and the seed of its key, in a file that may be
// replaced while we run: both are read again at every connect.
type credsFile struct{ path string }

// badFile is an error of a file that holds no credentials.
type badFile struct{ err error }

func (e *badFile) Error() string { return e.err.Error() }
func (e *badFile) Unwrap() error { return e.err }

// option is applied at every first connect, and reads the file then.
func (c *credsFile) option(o *nats.Options) error {
	if _, _, err := c.read(); err != nil {
		return err
	}
	return nats.UserJWT(c.jwt, c.sign)(o)
}

func (c *credsFile) jwt() (string, error) {
	token, pair, err := c.read()
	if err == nil {
		pair.Wipe()
	}
	return token, err
}

func (c *credsFile) sign(nonce []byte) ([]byte, error) {
	_, pair, err := c.read()
	if err != nil {
		return nil, err
	}
	defer pair.Wipe()
	return pair.Sign(nonce)
}

// read reads both; the pair is the caller's to wipe.
func (c *credsFile) read() (token string, pair nkeys.KeyPair, err error) {
	bad := func(err error) (string, nkeys.KeyPair, error) {
		return "", nil, &badFile{fmt.Errorf("bus: credentials %s: %w", c.path, err)}
	}
	b, err := os.ReadFile(c.path)
	if err != nil {
		return "", nil, &badFile{fmt.Errorf("bus: credentials: %w", err)} // names the file
	}
	defer clear(b)
	if token, err = nkeys.ParseDecoratedJWT(b); err != nil {
		return bad(err)
	}
	claims, err := jwt.DecodeUserClaims(token)
	if err != nil {
		return bad(fmt.Errorf("holds no JWT of a user: %w; write a file as `nsc generate creds` does", err))
	}
	if pair, err = nkeys.ParseDecoratedNKey(b); err != nil {
		return bad(fmt.Errorf("the seed: %w", err))
	}
	if public, err := pair.PublicKey(); err != nil || public != claims.Subject {
		pair.Wipe()
		return bad(errors.New("the seed is not that of the user of the JWT; take both from one file"))
	}
	return token, pair, nil
}

// refusal says whether an error is about who we are: the servers refuse it, or
// the file that says it cannot be read.
func refusal(err error) bool {
	for _, e := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, new(*badFile))
}

// explain says of a refusal which file it is about, and what can be seen in it.
func (b *Bus) explain(err error) error {
	file := cmp.Or(b.cfg.Credentials, b.cfg.NKey)
	if file == "" || errors.As(err, new(*badFile)) {
		return err
	}
	if b.cfg.Credentials != "" {
		token, bad := (&credsFile{file}).jwt()
		if bad != nil {
			return bad
		}
		if claims, e := jwt.DecodeUserClaims(token); e == nil && claims.Expires > 0 && claims.Expires <= b.set.Now().Unix() {
			return fmt.Errorf("credentials %s have expired at %s; put new ones there, and they are taken without a restart: %w", file, time.Unix(claims.Expires, 0).UTC().Format(time.RFC3339), err)
		}
	}
	return fmt.Errorf("credentials %s are refused; put those of a user that the servers know there, and they are taken without a restart: %w", file, err)
}

// tellRefused tells of a refusal when its reason changes, and in the log once until
// we are let in.
func (b *Bus) tellRefused(err error) {
	err = b.explain(err)
	switch was := b.refused.Swap(new(err.Error())); {
	case was == nil:
		b.set.Log.Error("nats refuses us, trying again until it does not", "err", err)
	case *was == err.Error():
		return
	}
	b.set.OnState(false, err.Error())
}
