package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/oncall-copilot/oncall/services/notifier"
)

const (
	// silencesFor is how old the copy of the silences may be.
	silencesFor = 15 * time.Second
	// silencesAtMost is how old it may be while none can be read.
	silencesAtMost = 5 * time.Minute
	// silencesWait bounds the reading of them: decisions wait for it.
	silencesWait = 3 * time.Second
)

// silences is a copy of what GET /api/v2/silences says.
type silences struct {
	mu    sync.Mutex
	all   []silence
	read  time.Time // when the copy was made
	tried time.Time // when it was last tried to
	err   error     // of that
	again bool      // it is being tried, in the background
}

// silence is one silence of GET /api/v2/silences.
type silence struct {
	ID        string    `json:"id"`
	CreatedBy string    `json:"createdBy"`
	StartsAt  time.Time `json:"startsAt"`
	EndsAt    time.Time `json:"endsAt"`
	Status    struct {
		State string `json:"state"`
	} `json:"status"`
	Matchers []matcher `json:"matchers"`
}

type matcher struct {
	Name    string `json:"name"`
	Value   string `json:"value"`
	IsRegex bool   `json:"isRegex"`
	IsEqual *bool  `json:"isEqual"` // absent means equal
	re      *regexp.Regexp
}

// Silenced returns the id of the active silence that mutes an alert with the
// labels, from a copy at most 15 seconds old; 5 minutes, while Alertmanager
// does not answer.
func (c *channel) Silenced(ctx context.Context, labels map[string]string) (string, error) {
	all, err := c.current(ctx)
	if err != nil {
		return "", err
	}
	set := maps.Clone(labels)
	maps.Copy(set, c.cfg.Labels)
	now := c.now()
	for _, s := range all {
		// The times decide: the copy's state may have been before its start.
		if s.Status.State != "expired" && !now.Before(s.StartsAt) && now.Before(s.EndsAt) && s.mutes(set) {
			return s.ID, nil
		}
	}
	return "", nil
}

// current is the copy in force. It is renewed while the caller waits; when
// that has failed, in the background, so that an Alertmanager that hangs
// delays one decision and not all.
func (c *channel) current(ctx context.Context) ([]silence, error) {
	s := &c.silences
	s.mu.Lock()
	defer s.mu.Unlock()
	now := c.env.Now()
	switch due := s.tried.IsZero() || now.Sub(s.tried) >= silencesFor; {
	case due && s.err == nil:
		all, err := c.readSilences(ctx)
		s.set(all, err, now)
	case due && !s.again:
		s.again = true
		go func() {
			all, err := c.readSilences(context.WithoutCancel(ctx)) // ends by itself
			s.mu.Lock()
			defer s.mu.Unlock()
			s.set(all, err, c.env.Now())
			s.again = false
		}()
	}
	if s.err != nil && (s.read.IsZero() || now.Sub(s.read) > silencesAtMost) {
		return nil, s.err
	}
	return s.all, nil
}

func (s *silences) set(all []silence, err error, now time.Time) {
	s.tried, s.err = now, err
	if err == nil {
		s.all, s.read = all, now
	}
}

// readSilences asks every replica at once and takes the first answer: they
// share their silences.
func (c *channel) readSilences(ctx context.Context) ([]silence, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, silencesWait, fmt.Errorf("nothing in %v", silencesWait))
	defer cancel()
	type answer struct {
		all []silence
		err error
	}
	answers := make(chan answer, len(c.cfg.URLs)) // one from each
	for _, base := range c.cfg.URLs {
		go func() {
			all, err := c.readFrom(ctx, base)
			answers <- answer{all, err}
		}()
	}
	var errs []error
	for range c.cfg.URLs {
		a := <-answers
		if a.err == nil {
			return a.all, nil
		}
		errs = append(errs, a.err)
	}
	return nil, fmt.Errorf("alertmanager silences: %w", errs[0])
}

func (c *channel) readFrom(ctx context.Context, base string) ([]silence, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(base, "/")+"/api/v2/silences", nil)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	body, err := notifier.Post(ctx, c.client, req, c.now())
	if err != nil {
		return nil, err
	}
	return parseSilences(body)
}

// parseSilences reads the answer of GET /api/v2/silences. A silence whose
// regular expression does not compile here mutes nothing.
func parseSilences(body []byte) ([]silence, error) {
	var all []silence
	if err := json.Unmarshal(body, &all); err != nil {
		return nil, errors.New("the answer is not a list of silences")
	}
	out := all[:0]
	for _, s := range all {
		if s.compile() {
			out = append(out, s)
		}
	}
	return out, nil
}

func (s silence) compile() bool {
	for i, m := range s.Matchers {
		if !m.IsRegex {
			continue
		}
		re, err := regexp.Compile("^(?s:" + m.Value + ")$")
		if err != nil {
			return false
		}
		s.Matchers[i].re = re
	}
	return true
}

// mutes applies Alertmanager's matching: every matcher, a missing label being
// empty, regular expressions anchored at both ends.
func (s silence) mutes(labels map[string]string) bool {
	for _, m := range s.Matchers {
		v := labels[m.Name]
		match := v == m.Value
		if m.re != nil {
			match = m.re.MatchString(v)
		}
		if equal := m.IsEqual == nil || *m.IsEqual; match != equal {
			return false
		}
	}
	return len(s.Matchers) > 0
}
