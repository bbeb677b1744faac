package bus

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Config is the `bus:` section of the configuration file.
type Config struct {
	// URL is the NATS servers, separated by commas. Empty: the server in this
	// process.
	URL string `yaml:"url"`
	// Credentials is a .creds file (JWT and key). Read again at every connect.
	Credentials string `yaml:"credentials"`
	// NKey is a file with an NKEY seed. Read again at every connect.
	NKey string `yaml:"nkey"`
	// TLS verifies the servers, and shows a certificate to them.
	TLS TLSConfig `yaml:"tls"`
	// Replicas is how many servers keep each stream: 1, 3 or 5. Default: 1.
	Replicas int `yaml:"replicas"`
	// MaxPending is how many publishes may wait for the server at once; more
	// block their publisher. Default: 256.
	MaxPending int `yaml:"max_pending"`
	// MaxBytes bounds all streams together, sharing it as their own limits
	// would. 0 leaves each its own. Default: 0.
	MaxBytes int64 `yaml:"max_bytes"`
	// MemberTTL is how long a member or a lease lives without a heartbeat: the
	// time that a crash leaves its partitions alone. The same for every service.
	// Default: 6s.
	MemberTTL time.Duration `yaml:"member_ttl"`
	// CheckpointEvery is how often folds write down their state; a crash repeats
	// the work since. Default: 30s.
	CheckpointEvery time.Duration `yaml:"checkpoint_every"`
	// ManageStreams makes the streams and buckets at start. In a cluster whose
	// services may not, only the one identity that may sets it. Default: true.
	ManageStreams bool `yaml:"manage_streams"`
}

// TLSConfig is the TLS part of [Config].
type TLSConfig struct {
	// CA is the file of certificates that servers are verified against.
	CA string `yaml:"ca"`
	// Cert and Key are the files of the certificate shown to servers.
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// DefaultConfig is the configuration of a user who writes nothing.
func DefaultConfig() Config {
	return Config{Replicas: 1, MaxPending: 256, MemberTTL: 6 * time.Second, CheckpointEvery: 30 * time.Second, ManageStreams: true}
}

// Validate checks the fields.
func (c *Config) Validate() error {
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	if c.URL != "" {
		for s := range strings.SplitSeq(c.URL, ",") {
			if u, err := url.Parse(strings.TrimSpace(s)); err != nil || u.Host == "" {
				bad("url", s, "is not a NATS URL", "write nats://host:4222")
			} else if u.User != nil {
				bad("url", u.Redacted(), "holds a password", "use credentials or nkey, which name a file")
			}
		}
	}
	if c.Credentials != "" && c.NKey != "" {
		bad("nkey", nil, "stands beside credentials", "keep one of them")
	}
	for path, file := range map[string]string{"credentials": c.Credentials, "nkey": c.NKey, "tls.ca": c.TLS.CA, "tls.cert": c.TLS.Cert, "tls.key": c.TLS.Key} {
		if file == "" {
			continue
		}
		if _, err := os.Stat(file); err != nil {
			bad(path, file, "cannot be read", fmt.Sprint(errors.Unwrap(err)))
		}
	}
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls", nil, "has only one of cert and key", "write both")
	}
	if c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5 {
		bad("replicas", c.Replicas, "is not 1, 3 or 5", "write 3 for a cluster of three servers")
	}
	if c.MaxPending < 1 || c.MaxPending > 4096 {
		bad("max_pending", c.MaxPending, "is not between 1 and 4096", "write 256")
	}
	if c.MemberTTL < time.Second || c.MemberTTL > time.Minute {
		bad("member_ttl", c.MemberTTL, "is not between 1s and 1m", "write 6s")
	}
	if c.CheckpointEvery < 100*time.Millisecond || c.CheckpointEvery > 10*time.Minute {
		bad("checkpoint_every", c.CheckpointEvery, "is not between 100ms and 10m", "write 30s")
	}
	if c.MaxBytes < 0 {
		bad("max_bytes", c.MaxBytes, "is negative", "write 0 for no bound")
	}
	return errors.Join(errs...)
}
