package logpattern

import "strings"

// kinds are the kinds of bytes that a word has.
type kinds uint8

const (
	digitByte kinds = 1 << iota
	hexByte         // a to f
	letterByte
	colonByte
	slashByte // and its like
	signByte
)

// kindOf is the kind of each byte that words are made of; 0 for any other.
var kindOf = func() (t [256]kinds) {
	for c := range 256 {
		switch b := byte(c); {
		case b >= '0' && b <= '9':
			t[c] = digitByte
		case b >= 'a' && b <= 'f' || b >= 'A' && b <= 'F':
			t[c] = hexByte
		case b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80:
			t[c] = letterByte
		case b == ':':
			t[c] = colonByte
		case b == '/' || b == '\\':
			t[c] = slashByte
		case strings.IndexByte("_-.$@#%+~*&?!^", b) >= 0:
			t[c] = signByte
		}
	}
	return t
}()

func kindsOf(w string) (k kinds) {
	for i := range len(w) {
		if kindOf[w[i]] == 0 {
			k |= signByte
		}
		k |= kindOf[w[i]]
	}
	return k
}

func wordByte(c byte) bool { return kindOf[c] != 0 }
