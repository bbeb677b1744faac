package redact

import (
	"regexp"
	"strings"
)

// ofPeople are the rules of personal data.
var ofPeople = []rule{
	{name: "email", by: byAt, may: holdsAddress, re: regexp.MustCompile(`(?:[\p{L}\p{N}._%+'-]{1,64})@(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]{0,62})\.)+(?:xn--[a-z0-9-]+|\p{L}{2,24})`), keep: systemAddress},
	{name: "email", by: byPercent, may: contains("%40"), re: regexp.MustCompile(`[A-Za-z0-9._+-]{1,64}%40(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.)+[A-Za-z]{2,24}\b`), keep: systemAddress},
	{name: "phone", by: byPlus, may: holdsPrefix, re: regexp.MustCompile(`(?:^|[\s"'=:(,])(\+[1-9]\d{0,2}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4})\b`), group: 1, keep: notAPhone},
	{name: "phone", by: byParen, may: holdsArea, re: regexp.MustCompile(`(?:^|[\s"'=:,])(\([2-9]\d{2}\) \d{3}-\d{4})\b`), group: 1},
	// Without a prefix it is only a number, if no word says what it is.
	{
		name: "phone", words: []string{"phone", "mobile", "call", "sms ", "sms:", "tel ", "tel:", "tel.", "fax ", "fax:", "whatsapp", "dial", "caller", "contact"}, may: holdsGroups,
		re: regexp.MustCompile(`(?i)\b(?:phone|mobile|call(?:er)?|sms|tel|fax|whatsapp|dial(?:ing)?|contact)\b[\w ]{0,12}[^\w+]{0,4}((?:00[1-9]\d{0,2}|0\d{2,4}|\d{3})(?:[ /.-]| / )\d{3,4}[ .-]?\d{3,7})\b`), group: 1, keep: func(s string) bool {
			return notAPhone(s) || strings.Count(s, ".") == 1 || strings.Contains(s, ".") && digits(s) != 10
		},
	},
	{name: "phone", words: []string{"phone", "mobile", "call", "sms", "tel", "to="}, may: holdsPairs, re: regexp.MustCompile(`(?:^|[\s"'=:])(0[1-9](?:[ .]\d\d){4})\b`), group: 1},
	{name: "card", by: byDigits, may: holdsCard, re: regexp.MustCompile(`(?:^|[^\w.-]|%B)([2-6]\d{3}[ -](?:\d{4}[ -]){2}\d{1,7}|3[47]\d{2}[ -]\d{6}[ -]\d{5}|4\d{15}|5[1-5]\d{14}|2[2-7]\d{14}|3[47]\d{13}|35[2-8]\d{13}|6(?:011|5\d{2})\d{12})(?:\^|\b)`), group: 1, keep: func(s string) bool { return !luhn(s) }},
	{name: "card", words: []string{"card", "diners", "pan=", "pan:", "pan\""}, may: holdsDigits, re: regexp.MustCompile(`(?i)(?:card|diners|pan)\D{1,20}(3(?:0[0-5]|[689]\d)\d{11}|\d{13,19}|(?:\d{4}\.){3}\d{4})\b`), group: 1, keep: func(s string) bool { return !luhn(s) }},
	{name: "iban", by: byLong, may: holdsIBAN, re: regexp.MustCompile(`\b[A-Z]{2}\d{2}[A-Z0-9]{11,30}\b`), keep: notAnIBAN},
	{name: "iban", by: byGroups, re: regexp.MustCompile(`\b[A-Z]{2}\d{2}(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?\b`), keep: notAnIBAN},
}

func notAPhone(s string) bool { n := digits(s); return n < 9 || n > 15 }

// holdsDigits says whether a text could hold a number of a telephone or of a card.
func holdsDigits(s string) bool {
	n := 0
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			if n++; n == 9 {
				return true
			}
		}
	}
	return false
}

// holdsGroups says whether three digits stand on both sides of what may join them.
func holdsGroups(s string) bool {
	for i := 3; i+3 < len(s); i++ {
		if (s[i] == ' ' || s[i] == '-' || s[i] == '/' || s[i] == '.') && (digits(s[i-3:i]) == 3 || i > 5 && digits(s[i-5:i-2]) == 3) && digits(s[i+1:i+4]) == 3 {
			return true
		}
	}
	return false
}

// holdsArea says whether an area's code stands in parentheses.
func holdsArea(s string) bool {
	for i := 0; i+13 < len(s); i++ {
		if s[i] == '(' && s[i+4] == ')' && s[i+5] == ' ' && s[i+9] == '-' {
			return true
		}
	}
	return false
}

// holdsPairs says whether pairs of digits follow one that begins with a zero.
func holdsPairs(s string) bool {
	for i := 0; i+14 <= len(s); i++ {
		if s[i] == '0' && (s[i+2] == ' ' || s[i+2] == '.') && s[i+5] == s[i+2] && s[i+8] == s[i+2] && s[i+11] == s[i+2] {
			return true
		}
	}
	return false
}

// holdsIBAN says whether two capitals and two digits begin a word of fifteen.
func holdsIBAN(s string) bool {
	for i := 0; i+15 <= len(s); i++ {
		if !isWord(s[i]) {
			continue
		}
		if isCapital(s[i]) && isCapital(s[i+1]) && digits(s[i+2:i+4]) == 2 && isWord(s[i+14]) {
			return true
		}
		for i < len(s) && isWord(s[i]) {
			i++
		}
	}
	return false
}

// notAnIBAN is false of a number whose check passes (ISO 13616, modulo 97).
func notAnIBAN(s string) bool {
	s = strings.ReplaceAll(s, " ", "")
	if len(s) < 15 || len(s) > 34 {
		return true
	}
	rest := 0
	for _, c := range []byte(s[4:] + s[:4]) {
		if c >= 'A' {
			rest = (rest*100 + int(c-'A') + 10) % 97
		} else {
			rest = (rest*10 + int(c-'0')) % 97
		}
	}
	return rest != 1
}

var ipv4 = regexp.MustCompile(`\b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b`)

// holdsAddress says whether behind an at sign of s stands what could be a
// domain: letters and digits, a dot, and a letter.
func holdsAddress(s string) bool {
	for i := strings.IndexByte(s, '@'); i >= 0 && i < len(s); {
		j := i + 1
		for ; j < len(s) && (isWord(s[j]) && s[j] != '_' || s[j] == '-' || s[j] == '.' || s[j] >= 0x80); j++ {
			if c := s[j] | 0x20; c >= 'a' && c <= 'z' && s[j-1] == '.' {
				return true
			}
		}
		next := strings.IndexByte(s[j:], '@')
		if next < 0 {
			return false
		}
		i = j + next
	}
	return false
}

// holdsPrefix says whether a plus sign stands before a country's code: +0000 is a
// zone.
func holdsPrefix(s string) bool {
	for i := strings.IndexByte(s, '+'); i >= 0 && i+1 < len(s); {
		if c := s[i+1]; c >= '1' && c <= '9' && (i == 0 || strings.IndexByte(" \t\n\f\r\v\"'=:(,", s[i-1]) >= 0) {
			return true
		}
		next := strings.IndexByte(s[i+1:], '+')
		if next < 0 {
			return false
		}
		i += 1 + next
	}
	return false
}

// systemAddress keeps what looks like an address and names a machine: unit
// instances, ssh's algorithms, image references.
func systemAddress(s string) bool {
	user, host, _ := strings.Cut(s, "@")
	if user == "git" || user == "hg" || messageID.MatchString(user) || notDomains[host[strings.LastIndexByte(host, '.')+1:]] || strings.Contains(host, ".svc.") || strings.HasPrefix(host, "ip-") {
		return true
	}
	return strings.HasSuffix(host, ".service") || strings.HasSuffix(host, ".socket") || host == "openssh.com" || host == "libssh.org" || strings.HasSuffix(host, ".libssh.org")
}

// holdsCard says whether digits of s are as many as those of a card, together or in
// groups of four, six and five, and pass its check.
func holdsCard(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			continue
		}
		from := i
		for i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' {
			i++
		}
		n := i + 1 - from
		if n != 4 && n < 13 || n > 19 || s[from] < '2' || s[from] > '6' || from > 0 && (isWord(s[from-1]) || s[from-1] == '-') && !(from > 1 && s[from-2:from] == "%B") {
			continue
		}
		to, all := i+1, n
		for n == 4 && to+2 < len(s) && all <= 19 && (s[to] == ' ' || s[to] == '-') && s[to+1] >= '0' && s[to+1] <= '9' {
			for to++; to < len(s) && s[to] >= '0' && s[to] <= '9'; to++ {
				all++
			}
			if all >= 13 && luhn(s[from:to]) {
				return true
			}
		}
		if n >= 13 && luhn(s[from:to]) {
			return true
		}
	}
	return false
}

// luhn is the check of card numbers (ISO/IEC 7812-1).
func luhn(s string) bool {
	sum, n := 0, 0
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] < '0' || s[i] > '9' {
			continue
		}
		d := int(s[i] - '0')
		if n%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
		n++
	}
	return n >= 13 && n <= 19 && sum%10 == 0
}

// messageID is how the id of a mail begins.
var messageID = regexp.MustCompile(`^\d{8,}\.`)

// notDomains are what stands in place of a top-level domain in names that are none.
var notDomains = map[string]bool{
	"service": true, "socket": true, "target": true, "mount": true, "timer": true, "slice": true, "scope": true, "path": true, "swap": true, "device": true, "automount": true,
	"svc": true, "local": true, "localdomain": true, "json": true, "yaml": true, "yml": true, "java": true, "html": true, "conf": true, "txt": true, "log": true, "tgz": true, "tar": true, "gz": true, "zip": true,
	"js": true, "ts": true, "mjs": true, "css": true, "md": true,
}
