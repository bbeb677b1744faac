package clock

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

// machine is a machine whose clock can be set: its monotonic clock goes on.
type machine struct{ off time.Duration }

func (m *machine) now() time.Time { return time.Now().Round(0).Add(m.off) }

// pass lets time go by, which in these tests takes none.
func pass(d time.Duration) { <-time.After(d) }

// remote is a server whose clock is off, which answers after a while.
type remote struct {
	off, takes time.Duration
	status     int
	header     http.Header
}

func (r *remote) RoundTrip(*http.Request) (*http.Response, error) {
	pass(r.takes)
	w := httptest.NewRecorder()
	for k, v := range r.header {
		w.Header()[k] = v
	}
	if w.Header().Get("Date") == "" {
		w.Header().Set("Date", time.Now().Add(r.off).UTC().Format(http.TimeFormat))
	}
	w.WriteHeader(max(r.status, http.StatusOK))
	return w.Result(), nil
}

// ask sends a request to a server.
func ask(t *testing.T, s *Server, r *remote) {
	t.Helper()
	res, err := s.Transport(r).RoundTrip(httptest.NewRequest(http.MethodGet, "/", nil))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
}

func TestServer(t *testing.T) {
	for name, test := range map[string]struct {
		machine machine
		remote  remote
		then    func(*testing.T, *machine, *remote, *Server)
		off     time.Duration // of Now from the true time
		within  time.Duration
		report  string
	}{
		"before an answer it is this machine's clock": {machine: machine{-time.Hour}, then: func(*testing.T, *machine, *remote, *Server) {}, off: -time.Hour},
		"clocks that agree leave this machine's alone": {
			then: func(t *testing.T, _ *machine, r *remote, s *Server) { ask(t, s, r) },
		},
		"clocks that agree as far as an answer can tell leave this machine's alone": {
			machine: machine{200 * time.Millisecond}, remote: remote{takes: time.Second}, off: 200 * time.Millisecond,
			then: func(t *testing.T, _ *machine, r *remote, s *Server) { ask(t, s, r) },
		},
		"a machine that is ahead is told so and is not believed": {
			machine: machine{5 * time.Minute}, within: time.Second, report: "clock of this machine is 5m0s ahead of prometheus'",
			then: func(t *testing.T, _ *machine, r *remote, s *Server) { ask(t, s, r) },
		},
		"a machine that is behind is told so and is not believed": {
			machine: machine{-5 * time.Minute}, within: time.Second, report: "clock of this machine is 5m0s behind prometheus'",
			then: func(t *testing.T, _ *machine, r *remote, s *Server) { ask(t, s, r) },
		},
		"a step of this machine's clock moves nothing, and is told with the next answer": {
			within: 2 * time.Second,
			then: func(t *testing.T, m *machine, r *remote, s *Server) {
				ask(t, s, r)
				m.off = 5 * time.Minute
				if !s.Moved() {
					t.Error("a step of five minutes was not noticed")
				}
				if s.Report("prometheus") != "" {
					t.Error("a step was told as a skew before anybody said so")
				}
			},
		},
		"a server whose clock was set is followed from its next answer on": {
			off: -5 * time.Minute, within: time.Second, report: "clock of this machine is 5m0s ahead of prometheus'",
			then: func(t *testing.T, _ *machine, r *remote, s *Server) {
				ask(t, s, r)
				r.off = -5 * time.Minute
				ask(t, s, r)
			},
		},
		"many answers narrow what one leaves open": {
			machine: machine{time.Minute}, within: 150 * time.Millisecond, report: "clock of this machine is 1m0s ahead of prometheus'",
			then: func(t *testing.T, _ *machine, r *remote, s *Server) {
				for range 50 {
					pass(1100 * time.Millisecond)
					ask(t, s, r)
				}
			},
		},
		"a slow answer takes nothing away from what is known": {
			machine: machine{time.Minute}, within: time.Second, report: "clock of this machine is 1m0s ahead of prometheus'",
			then: func(t *testing.T, _ *machine, r *remote, s *Server) {
				ask(t, s, r)
				r.takes = 20 * time.Second
				ask(t, s, r)
			},
		},
		"an answer of a cache is not the server's date": {
			remote: remote{off: -5 * time.Minute, header: http.Header{"Age": {"300"}}},
			then:   func(t *testing.T, _ *machine, r *remote, s *Server) { ask(t, s, r) },
		},
		"an error may be a proxy's": {
			remote: remote{off: -5 * time.Minute, status: http.StatusBadGateway},
			then:   func(t *testing.T, _ *machine, r *remote, s *Server) { ask(t, s, r) },
		},
		"a date that is none is passed over": {
			remote: remote{header: http.Header{"Date": {"yesterday"}}},
			then:   func(t *testing.T, _ *machine, r *remote, s *Server) { ask(t, s, r) },
		},
		"a date of another age is told and not followed": {
			remote: remote{header: http.Header{"Date": {"Sat, 01 Jan 2000 00:00:30 GMT"}}}, report: "clock of this machine is 25h59m30s ahead of prometheus'",
			then: func(t *testing.T, _ *machine, r *remote, s *Server) {
				pass(26 * time.Hour) // time begins at midnight of that day
				ask(t, s, r)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pass(300 * time.Millisecond) // dates are cut
				s := NewServer(test.machine.now)
				test.then(t, &test.machine, &test.remote, s)
				if got := s.Now().Sub(time.Now().Add(test.off)); got.Abs() > test.within {
					t.Errorf("Now is off by %v, want at most %v", got, test.within)
				}
				if got := s.Report("prometheus"); got != test.report {
					t.Errorf("report %q, want %q", got, test.report)
				}
			})
		})
	}
}

func TestServers(t *testing.T) {
	const none = 100 * time.Hour // a server that has not answered
	for name, test := range map[string]struct {
		machine time.Duration
		servers map[string]time.Duration
		off     time.Duration
		report  string
	}{
		"nobody has answered":                     {machine: time.Minute, servers: map[string]time.Duration{"loki": none}, off: time.Minute},
		"one bears this machine out":              {servers: map[string]time.Duration{"loki": 0, "prometheus": -5 * time.Minute}, report: "clock of this machine is 5m0s ahead of prometheus'"},
		"all say that it is ahead":                {machine: 5 * time.Minute, servers: map[string]time.Duration{"kubernetes": 0, "loki": 0, "prometheus": 0}, report: "clock of this machine is 5m0s ahead of kubernetes', loki's and prometheus'"},
		"all say that it is behind, unlike much":  {machine: -5 * time.Minute, servers: map[string]time.Duration{"loki": 0, "prometheus": -time.Minute}, off: -time.Minute, report: "clock of this machine is 5m0s behind loki's and 4m0s behind prometheus'"},
		"one says ahead and one behind":           {servers: map[string]time.Duration{"loki": time.Minute, "prometheus": -time.Minute}, report: "clock of this machine is 1m0s behind loki's and 1m0s ahead of prometheus'"},
		"who has not answered does not count":     {machine: time.Minute, servers: map[string]time.Duration{"loki": none, "prometheus": 0}, report: "clock of this machine is 1m0s ahead of prometheus'"},
		"a second is not worth a word, but right": {machine: 2 * time.Second, servers: map[string]time.Duration{"prometheus": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pass(300 * time.Millisecond) // dates are cut
				m := machine{test.machine}
				all := NewServers(m.now)
				for name, off := range test.servers {
					one := NewServer(m.now)
					all.Add(name, one)
					if off != none {
						ask(t, one, &remote{off: off})
					}
				}
				if got := all.Now().Sub(time.Now().Add(test.off)); got.Abs() > time.Second {
					t.Errorf("Now is off by %v, want at most a second", got)
				}
				if got := all.Report(); got != test.report {
					t.Errorf("report %q, want %q", got, test.report)
				}
			})
		})
	}
}

func TestOfReplicasTheOneThatIsFurthestAwayIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := NewServers(nil)
		for _, off := range []time.Duration{0, -time.Minute, 10 * time.Second} {
			one := NewServer(nil)
			all.Add("alertmanager", one)
			ask(t, one, &remote{off: off})
		}
		if got, want := all.Report(), "clock of this machine is 1m0s ahead of alertmanager's"; got != want {
			t.Errorf("report %q, want %q", got, want)
		}
	})
}
