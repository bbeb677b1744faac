package event

import (
	"fmt"
	"hash/fnv"
	"strings"
)

// Partitions is how many partitions telemetry is split into. It is fixed for
// the life of the data: changing it would break the order of every series. It
// is also the largest number of detector workers that have something to do.
const Partitions = 32

// Partition is the partition that holds everything about one workload: its
// metrics, its logs and its events, so that one fold sees together what
// belongs together. It is FNV-1a-32(namespace/workload) mod [Partitions],
// which the NATS server's own partition() mapping can compute too.
func Partition(namespace, workload string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(namespace))
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write([]byte(workload))
	return int(h.Sum32() % Partitions)
}

// PartitionToken is the subject token of a partition: 00 … 31.
func PartitionToken(p int) string {
	if p >= 0 && p < Partitions { // without an allocation: folds ask for it all the time
		return tokens[2*p : 2*p+2]
	}
	return fmt.Sprintf("%02d", p)
}

const tokens = "0001020304050607080910111213141516171819202122232425262728293031"

// ClusterToken stands in a subject for an empty namespace, since NATS refuses
// an empty token.
const ClusterToken = "_cluster"

// Token makes s safe as one subject token. What has to be changed gets a
// short hash of the original, so that two names never share a token; an empty
// name becomes [ClusterToken]. Token of a token is itself only for names that
// needed no change: call it once, on the name.
func Token(s string) string {
	if s == "" {
		return ClusterToken
	}
	safe := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			return r
		}
		return '_'
	}, s)
	if safe == s && s != ClusterToken {
		return s
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return fmt.Sprintf("%s_%08x", safe, h.Sum32())
}
