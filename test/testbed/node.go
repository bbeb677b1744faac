package testbed

// NodeMissing says what a real node lacks on this machine, and how to get it;
// "" when nothing is missing.
func NodeMissing() string { return "" }
