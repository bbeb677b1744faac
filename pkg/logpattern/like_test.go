package logpattern

import "testing"

func TestTemplatesAreLikeEachOtherByWordsAndTheirOrder(t *testing.T) {
	for name, c := range map[string]struct {
		a, b      string
		low, high float64
	}{
		"the same":                     {"connection to <*> refused after <*>", "connection to <*> refused after <*>", 1, 1},
		"with other values":            {"connection to <*> refused", "Connection to <ip:0a1b2c> refused", 1, 1},
		"one word of many is another":  {"cannot reach the upstream <*> within the deadline", "cannot reach the database <*> within the deadline", 0.6, 0.9},
		"the words in another order":   {"the deadline of the request", "request of the deadline the", 0.3, 0.8},
		"nothing in common but a word": {"cannot charge the card", "the cache is warm now", 0, 0.3},
		"a single word":                {"error <*>", "error <*>", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, back := NewLikeness(c.a).To(c.b), NewLikeness(c.b).To(c.a)
			if got < c.low || got > c.high || got != back {
				t.Errorf("%g, and %g the other way round; want %g to %g", got, back, c.low, c.high)
			}
		})
	}
}
