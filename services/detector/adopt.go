package detector

// adopt reads a state that another configuration wrote. What the folds keep beside
// their detectors says nothing of how those are configured, so that they take over all of
// it, and of detectors what heirOf says.
func (b *bank) adopt(read func([]byte) error, state []byte) error {
	b.heir = true
	defer func() { b.heir = false }()
	return read(state)
}

// Adopt is bus.Adopter's.
func (f *metricFold) Adopt(state []byte) error { return f.adopt(f.UnmarshalBinary, state) }

// Adopt is bus.Adopter's.
func (f *logFold) Adopt(state []byte) error { return f.adopt(f.UnmarshalBinary, state) }

// Adopt is bus.Adopter's.
func (f *eventFold) Adopt(state []byte) error { return f.adopt(f.UnmarshalBinary, state) }
