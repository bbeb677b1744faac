package event

import (
	"slices"
	"time"
)

// Stream is one JetStream stream: what it holds and for how long. Every
// stream is bounded by age and by bytes.
type Stream struct {
	Name      string
	Doc       string
	Subjects  []string
	MaxAge    time.Duration
	MaxBytes  int64
	MaxMsg    int32         // bytes of one message; 0 means the server's limit
	Dedupe    time.Duration // how long the server remembers ids
	WorkQueue bool          // a message goes when its one consumer has acknowledged it
	Compress  bool          // S2 on disk; off where payloads are compressed already
	Direct    bool          // replicas answer single gets
}

func (s *Stream) holds(filter string) bool {
	return slices.ContainsFunc(s.Subjects, func(own string) bool { return MatchSubject(own, filter) })
}

// Streams returns every stream that the table of kinds uses, and [Advisories],
// in declaration order.
func Streams() []*Stream {
	var out []*Stream
	for _, k := range registered {
		if !slices.Contains(out, k.Stream) {
			out = append(out, k.Stream)
		}
	}
	return append(out, Advisories)
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	day = 24 * time.Hour
)
