package render

// Wrap is text in lines of a width, broken at spaces, the first after one
// indent and the others after another. A word that is longer than a line stays
// whole. The text has to be inert already.
func Wrap(s string, width int, first, rest string) []string { return broken(s, width, first, rest) }

// Clip cuts inert text to a number of columns.
func Clip(s string, columns int) string { return clip(s, columns) }

// Columns is the width to write for.
func (o Options) Columns() int { return o.width() }
