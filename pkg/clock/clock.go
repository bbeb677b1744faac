// Package clock says what time it is where telemetry is made.
//
// What a server has stamped can be compared with that server's clock only: a
// step of a minute is over when Prometheus says so, whatever this machine
// thinks. A [Server] is this machine's clock, kept within what the dates of one
// server's answers allow; between two answers it goes on by the monotonic
// clock, so that a step of this machine's clock moves it by nothing.
//
// What only measures how long something takes needs none of this: the
// difference of two readings of [time.Now] is monotonic.
package clock

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Tolerance is how far clocks may be apart before it is worth a word: the
	// dates of answers are whole seconds, and telemetry is read later than that.
	Tolerance = 3 * time.Second
	// believed is how far off this machine can be. A date that is further away is
	// that of a proxy without a clock, and to follow it would be to wait for
	// years. The largest honest error is a time zone.
	believed = 24 * time.Hour
)

// Server is the clock of one server. Its methods are safe for concurrent use.
type Server struct {
	wall func() time.Time

	mu          sync.Mutex
	at          time.Time     // monotonic, of the last answer; zero before the first
	early, late time.Time     // what the server's clock showed then, at least and at most
	skew        time.Duration // of this machine's clock as it was then; 0 within the bounds
}

// NewServer makes the clock of a server that has said nothing yet. wall is this
// machine's clock; nil is [time.Now].
func NewServer(wall func() time.Time) *Server {
	if wall == nil {
		wall = time.Now
	}
	return &Server{wall: wall}
}

// Now is this machine's clock as long as the server's answers allow it, and else
// the earliest time that they allow: what is read too late costs a second, and
// what is read too early is lost. Before the first answer it is this machine's
// clock. It carries no monotonic reading: it is to be compared with what the
// server stamps.
func (s *Server) Now() time.Time {
	now := s.wall().Round(0)
	c, _ := s.correction(now)
	return now.Add(c)
}

// correction is what is to be added to this machine's clock; ok is false before
// the first answer.
func (s *Server) correction(now time.Time) (c time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() {
		return 0, false
	}
	since := time.Since(s.at)
	early, late := s.early.Add(since), s.late.Add(since)
	if c = early.Sub(now); inside(now, early, late) || c.Abs() > believed {
		return 0, true
	}
	return c, true
}

func inside(now, early, late time.Time) bool { return !now.Before(early) && !now.After(late) }

// Skew is how far this machine's clock was ahead of the server's at the last
// answer, in whole seconds; negative when it was behind, and 0 when an answer
// cannot tell.
func (s *Server) Skew() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.skew
}

// Moved says whether this machine's clock has been set since the last answer,
// or has gone on while the machine slept: which of the two, the next answer
// tells.
func (s *Server) Moved() bool {
	now := s.wall().Round(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at.IsZero() {
		return false
	}
	since := time.Since(s.at)
	return (skew(now, s.early.Add(since), s.late.Add(since)) - s.skew).Abs() > Tolerance
}

// answered takes in the date of an answer. The server has written it between
// the two readings of our clock, and cut it to a second.
func (s *Server) answered(sent, received, date time.Time) {
	early, late := date, date.Add(time.Second+received.Sub(sent))
	now := s.wall().Round(0)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() {
		since := received.Sub(s.at)
		if was := s.early.Add(since); was.After(early) && !was.After(late) {
			early = was
		}
		if was := s.late.Add(since); was.Before(late) && !was.Before(early) {
			late = was
		}
	}
	s.at, s.early, s.late = received, early, late
	s.skew = skew(now, early, late)
}

func skew(now, early, late time.Time) time.Duration {
	if inside(now, early, late) {
		return 0
	}
	return now.Sub(early.Add(late.Sub(early) / 2)).Round(time.Second)
}

// Transport hears the dates of what next brings.
func (s *Server) Transport(next http.RoundTripper) http.RoundTripper { return transport{s, next} }

type transport struct {
	server *Server
	next   http.RoundTripper
}

// RoundTrip implements [http.RoundTripper]. Only an answer that is the server's
// own counts: what a cache gives has an Age, and an error may be a proxy's.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now()
	res, err := t.next.RoundTrip(req)
	if err != nil || res.StatusCode/100 != 2 || res.Header.Get("Age") != "" {
		return res, err
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		t.server.answered(sent, time.Now(), date)
	}
	return res, nil
}

// Servers are the clocks of all servers that a process asks, by name. Its
// methods are safe for concurrent use; a nil one has none.
type Servers struct {
	wall func() time.Time

	mu  sync.Mutex
	all []named
}

type named struct {
	name   string
	server *Server
}

// NewServers makes an empty set. wall is this machine's clock; nil is
// [time.Now].
func NewServers(wall func() time.Time) *Servers {
	if wall == nil {
		wall = time.Now
	}
	return &Servers{wall: wall}
}

// Add adds the clock of a server; several of one name are its replicas.
func (s *Servers) Add(name string, one *Server) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, named{name, one})
}

// Now is the time for what no server stamps: what is pushed, and what is said
// of a source that is silent. It is this machine's clock as long as one of the
// servers that have answered bears it out. When each of them says that it is
// ahead, or each that it is behind, it is wrong, and set right by the least that
// any of them asks for. It carries no monotonic reading.
func (s *Servers) Now() time.Time {
	now := s.wall().Round(0)
	var least time.Duration
	first := true
	for _, n := range s.list() {
		c, ok := n.server.correction(now)
		if !ok {
			continue
		}
		if c == 0 || !first && (c > 0) != (least > 0) {
			return now
		}
		if first || c.Abs() < least.Abs() {
			least = c
		}
		first = false
	}
	return now.Add(least)
}

func (s *Servers) list() []named {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

// Skew is how far this machine's clock is ahead of that of the servers of a
// name.
type Skew struct {
	Name  string
	Ahead time.Duration
}

// Skews are those of all servers, sorted by name; of replicas that of the one
// that is furthest away.
func (s *Servers) Skews() []Skew {
	var out []Skew
	for _, n := range s.list() {
		ahead := n.server.Skew()
		switch i := slices.IndexFunc(out, func(o Skew) bool { return o.Name == n.name }); {
		case i < 0:
			out = append(out, Skew{n.name, ahead})
		case ahead.Abs() > out[i].Ahead.Abs():
			out[i].Ahead = ahead
		}
	}
	slices.SortFunc(out, func(a, b Skew) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Report says in one line whose clocks this machine's disagrees with; "" when
// there is none.
func (s *Servers) Report() string {
	type group struct {
		ahead time.Duration
		names []string
	}
	var groups []group
	for _, k := range s.Skews() {
		if k.Ahead.Abs() <= Tolerance {
			continue
		}
		// A second more or less is how the dates were cut.
		if i := slices.IndexFunc(groups, func(g group) bool { return (g.ahead - k.Ahead).Abs() <= time.Second }); i >= 0 {
			groups[i].names = append(groups[i].names, k.Name)
			continue
		}
		groups = append(groups, group{k.Ahead, []string{k.Name}})
	}
	if groups == nil {
		return ""
	}
	var parts []string
	for _, g := range groups {
		parts = append(parts, words(g.ahead, g.names))
	}
	return "clock of this machine is " + strings.Join(parts, " and ")
}

// Report says in one line how far this machine's clock is from that of a server
// called name; "" when they agree as far as an answer can tell.
func (s *Server) Report(name string) string {
	k := s.Skew()
	if k.Abs() <= Tolerance {
		return ""
	}
	return "clock of this machine is " + words(k, []string{name})
}

func words(ahead time.Duration, names []string) string {
	direction := "ahead of"
	if ahead < 0 {
		direction = "behind"
	}
	whose := make([]string, len(names))
	for i, n := range names {
		if whose[i] = n + "'s"; strings.HasSuffix(n, "s") {
			whose[i] = n + "'"
		}
	}
	list := whose[len(whose)-1]
	if len(whose) > 1 {
		list = strings.Join(whose[:len(whose)-1], ", ") + " and " + list
	}
	return fmt.Sprintf("%s %s %s", ahead.Abs(), direction, list)
}
