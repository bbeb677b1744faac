package notifier

import (
	"sync"
	"time"
)

// lanes is how many deliveries a channel has under way at once.
const lanes = 4

// outlet is one configured channel and what is going on with it.
type outlet struct {
	name    string
	info    Info
	channel Channel
	slots   *window
	lanes   chan struct{} // one for each delivery under way
	every   time.Duration // between attempts while it refuses everything

	mu      sync.Mutex
	busy    map[string]bool // incidents with a delivery under way
	refused string          // why the channel refuses everything; "" when it does not
	probed  time.Time       // when it was tried last since
}

func newOutlet(name string, info Info, ch Channel, perMinute int, probe time.Duration) *outlet {
	return &outlet{
		name: name, info: info, channel: ch, slots: newWindow(perMinute, time.Minute),
		lanes: make(chan struct{}, lanes), every: probe, busy: map[string]bool{},
	}
}

// claim takes an incident, or says that another delivery has it: an incident's
// revisions go one after the other.
func (o *outlet) claim(incident string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.busy[incident] {
		return false
	}
	o.busy[incident] = true
	return true
}

func (o *outlet) release(incident string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.busy, incident)
}

// probe says how long to leave a channel alone that refuses everything, and
// why it does; 0 means to try it.
func (o *outlet) probe(now time.Time) (wait time.Duration, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused == "" {
		return 0, ""
	}
	if wait := o.every - now.Sub(o.probed); wait > 0 {
		return wait, o.refused
	}
	o.probed = now
	return 0, ""
}

// refuse notes that the channel refuses everything.
func (o *outlet) refuse(why string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused, o.probed = why, now
}

// accept notes that the channel works.
func (o *outlet) accept() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refused = ""
}

// works says that the channel does not refuse everything.
func (o *outlet) works() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.refused == ""
}
