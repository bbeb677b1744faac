// Package render shows findings and reports: on a terminal, as Markdown, JSON
// or YAML. All of their text may come from whoever can write a log line, so
// every surface has its own escaping, and it is applied here and nowhere else
// than where something is shown.
package render

import "strings"

// Plain makes text inert on a terminal: without control characters there is no
// escape sequence, and without direction overrides it reads as it is. Line
// breaks and tabs become spaces.
func Plain(s string) string {
	clean := true
	for _, r := range s {
		if hostile(r) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case hostile(r):
			return -1
		}
		return r
	}, s)
}

// hostile are control characters (C0, DEL, C1) and marks that change the
// direction or hide text.
func hostile(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0x200b || r == 0x200e || r == 0x200f || r == 0xfeff || r == 0xfffd
}

// Markdown makes text inert in Markdown: no emphasis, link, image, HTML,
// heading or list of its own.
func Markdown(s string) string {
	return markdown.Replace(Plain(s))
}

var markdown = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", `*`, `\*`, `_`, `\_`, `[`, `\[`, `]`, `\]`, `<`, `&lt;`, `>`, `&gt;`, `&`, `&amp;`, `#`, `\#`, `|`, `\|`, `~`, `\~`, `!`, `\!`,
)

// Code makes text a code span of Markdown, in which nothing else counts.
func Code(s string) string {
	s = Plain(s)
	fence := "`"
	for strings.Contains(s, fence) {
		fence += "`"
	}
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") {
		s = " " + s + " "
	}
	return fence + s + fence
}
