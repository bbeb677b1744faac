package redact

import (
	"encoding/base64"
	"regexp"
	"strings"
)

// ofTools are the rules of programs that take or tell a secret without a key: by
// their arguments, in SQL, in sentences.
var ofTools = []rule{
	{name: "secret", words: []string{"mysql", "mariadb"}, may: contains("-p"), re: regexp.MustCompile(`\b(?:mysql|mariadb)[\w-]*\b[^|;\n]*?\s-p([^\s"'-][^\s"']{2,})`), group: 1},
	{
		name: "secret", words: []string{"sshpass", "mongo", "docker login", "podman login", "az login", "helm registry login", "oc login", "redis-cli", "ldap", "sqlcmd", "snmp"}, may: contains(" -"),
		re: regexp.MustCompile(`\b(?:(?:sshpass|mongo\w*|(?:docker|podman|az|oc|helm registry) login)\b[^|;\n]*?\s-p|redis-cli\b[^|;\n]*?\s-a|ldap(?:search|modify|add|delete|passwd|whoami|compare)\b[^|;\n]*?\s-w|sqlcmd\b[^|;\n]*?\s-P|snmp(?:walk|get|bulkwalk|set|table)\b[^|;\n]*?\s-c)(?:\s+|=|["'],\s*["'])["']?([^\s"'-][^\s"']{2,})`), group: 1,
	},
	{name: "secret", words: []string{"smbclient"}, re: regexp.MustCompile(`\s(?:-U|--user)[ =]?["']?[^\s%"']+%([^\s"']{3,})`), group: 1},
	{name: "secret", words: []string{"htpasswd"}, re: regexp.MustCompile(`\bhtpasswd\s+-\w*b\w*\s+(?:-\w+\s+)*(?:\S+\s+)?\S+\s+["']?([^\s"'-][^\s"']{2,})["']?\s*$`), group: 1},
	{name: "secret", words: []string{"sudo -s", "password-stdin"}, re: regexp.MustCompile(`\becho\s+(?:-n\s+)?("[^"]{3,}"|'[^']{3,}'|[^\s"'|]{3,})\s*\|\s*(?:sudo\s+)?[^|]*(?:-S\b|password-stdin)`), group: 1},
	{name: "secret", words: []string{"net use"}, re: regexp.MustCompile(`(?i)\bnet use\b.*?\\\\\S+\s+(\S{3,})\s+/user`), group: 1},
	{name: "secret", words: []string{"vault login", "operator unseal", "unseal key", "vault unseal"}, re: regexp.MustCompile(`(?i)\b(?:vault login|(?:operator|vault) unseal|unseal key(?: \d+)?(?: \(\w+\))?:?)\s+(?:-\S+\s+)*([^\s"'-][^\s"']{15,})`), group: 1},
	{name: "secret", words: []string{"pass:"}, re: regexp.MustCompile(`\s-pass(?:in|out)?\s+["']?pass:([^\s"']{3,})`), group: 1},
	{name: "secret", words: []string{"oracle:thin", "oracle:oci", "sqlplus"}, re: regexp.MustCompile(`(?:oracle:(?:thin|oci8?):|sqlplus\s+(?:-\S+\s+)*["']?)[\w$#.]+/([^\s@"']{2,})@`), group: 1},
	{name: "secret", words: []string{"ssh-keygen"}, re: regexp.MustCompile(`ssh-keygen\b.*?\s-[NP]\s+("[^"]{3,}"|'[^']{3,}'|[^\s"']{3,})`), group: 1},
	{name: "secret", words: []string{"wpa_passphrase"}, re: regexp.MustCompile(`wpa_passphrase\s+\S+\s+(\S{8,})`), group: 1},
	{name: "secret", words: []string{"ugfzc3dvcmq6"}, re: regexp.MustCompile(`(?s)334 UGFzc3dvcmQ6\s+(?:C: )?([A-Za-z0-9+/=]{4,})`), group: 1},
	{name: "secret", words: []string{"pass ", "login "}, re: regexp.MustCompile(`(?:^|[>/:] |\d )(?:PASS|\w* ?LOGIN \S+) (\S{4,})$`), group: 1, keep: func(s string) bool { return !passwordLike(s) }},
	{name: "secret", words: []string{"psk \"", "psk '"}, re: regexp.MustCompile(`(?i)\bpsk ("[^"]{3,}"|'[^']{3,}')`), group: 1},
	{name: "card", words: []string{"cvv ", "cvc ", "cvv2", "cvc2"}, re: regexp.MustCompile(`(?i)\bcv[vc]2?[ :=#]+(\d{3,4})\b`), group: 1},
	{name: "secret", words: []string{"setuser", "on >", "off >"}, re: regexp.MustCompile(`(?i)\b(?:setuser|user)\s+\S+.*?\s>(\S{3,})`), group: 1},
	{name: "secret", words: []string{"addauth digest"}, re: regexp.MustCompile(`addauth digest [^\s:]+:(\S{3,})`), group: 1},
	{name: "secret", words: []string{"mc alias set", "mc config host"}, re: regexp.MustCompile(`\bmc (?:alias set|config host add)\s+\S+\s+\S+\s+\S+\s+(\S{8,})`), group: 1},
	{name: "password-hash", words: []string{"$2a$", "$2b$", "$2y$", "$apr1$", "$argon2", "$pbkdf2", ":$6$", ":$5$", ":$1$", ":$y$"}, re: regexp.MustCompile(`\$(?:2[aby]\$\d\d\$[A-Za-z0-9./]{50,53}|(?:apr1|[156y])\$[^\s$"':]+\$[A-Za-z0-9./$]{20,}|(?:argon2|pbkdf2)[^\s"']{30,})`)},
	{name: "secret", words: []string{"/reset/", "/login/", "/invite", "/verify", "/confirm", "/activate/", "/magic"}, re: regexp.MustCompile(`/(?:reset|login|invite|verify|confirm|activate|magic)[\w-]*(?:/|\?\w+=)([A-Za-z0-9_-]{24,})`), group: 1, keep: func(s string) bool { return !random(s) || !opaque(s) }},
	{name: "secret", words: []string{"recovery code", "backup code"}, re: regexp.MustCompile(`(?i)(?:recovery|backup) codes?(?: is)?[: ]+((?:[A-Za-z0-9]{4,6}-){1,4}[A-Za-z0-9]{4,6})`), group: 1, keep: func(s string) bool { return digits(s) == 0 }},
	{name: "secret", words: []string{"aws configure"}, re: regexp.MustCompile(`configure\s+set\s+\S*(?:secret|token)\S*\s+(\S{8,})`), group: 1},
	{name: "secret", words: []string{"login"}, may: contains("password"), re: regexp.MustCompile(`\blogin\s+\S+\s+password\s+(\S{3,})`), group: 1, keep: states},

	// SQL, and what Redis is told.
	{
		name: "secret", words: []string{"password '", "password('", "password=", "password =", "password \"", "passwd '", "identified", "password e'"},
		re: regexp.MustCompile(`(?i)\b(?:password(?:\s*\(|\s*=)?\s*E?|identified(?:\s+with\s+\w+)?\s+(?:by|as)(?:\s+password)?\s*\(?\s*)'((?:[^'\\]|''|\\.){1,})'`), group: 1, keep: func(s string) bool { return states(s) || sentence(s) },
	},
	{name: "secret", words: []string{"insert into", "replace into"}, may: holdsSecretColumn, find: inserted},
	{name: "secret", words: []string{`"auth"`, `"requirepass"`, `"masterauth"`, `"masterpass"`}, re: regexp.MustCompile(`(?i)"(?:auth|requirepass|masterauth)"((?: "[^"]{3,}"){1,2})$`), group: 1},
	{name: "secret", words: []string{"requirepass ", "masterauth ", "community string ", "community "}, re: regexp.MustCompile(`(?i)\b(?:requirepass|masterauth|community(?: string)?)\s+["']?([^\s"']{3,})`), group: 1, keep: func(s string) bool { return states(s) || !passwordLike(s) }},

	// A manifest of a Secret.
	{name: "secret", words: []string{"kind"}, may: ofKindSecret, find: manifest},
	{name: "secret", words: []string{"password", "passwd", "secret", "token", "signaturevalue", "apikey", "passphrase", "privatekey"}, may: contains("</"), re: regexp.MustCompile(`(?i)<[\w:.-]*(?:passw(?:or)?d|passphrase|secret|token|signaturevalue|api-?key|private-?key)(?:\s[^<>]*)?>([^<]{3,})</`), group: 1, keep: states},
	{name: "secret", words: []string{"password", "secret", "token", "passphrase"}, may: contains("</"), re: regexp.MustCompile(`(?i)<\w+[^<>]*\b(?:name|key)="[^"]*(?:passw(?:or)?d|passphrase|secret|token)"[^<>]*>\s*(?:<value>)?([^<]{3,})</`), group: 1, keep: states},
	{name: "secret", words: []string{"password&gt;", "secret&gt;", "token&gt;", "passwd&gt;"}, re: regexp.MustCompile(`(?i)&lt;[\w:.-]*(?:passw(?:or)?d|secret|token)&gt;(.{3,}?)&lt;/`), group: 1, keep: states},

	{name: "secret", words: []string{":5432:"}, may: func(s string) bool { return !strings.Contains(s, ":5432: ") }, re: regexp.MustCompile(`\b[\w.*-]+:5432:[\w.*-]+:[\w.*-]+:(\S{3,})$`), group: 1},

	// Sentences.
	{name: "secret", words: []string{"password", "passphrase", "passcode", " pass "}, find: told},
	{name: "secret", words: []string{" code"}, may: holdsCode, re: regexp.MustCompile(`(?i)\b(?:verification|security|one-?time|confirmation|login|2fa|mfa|otp|sms|activation|access) (?:pass)?code(?: is|:| was|=)?\s+["']?(\d[\d -]{2,8}\d)\b`), group: 1},
	{
		name: "secret", words: []string{"token ", "secret ", "credential ", "key ", "secret_access_key ", "-key ", "bearer "}, may: holdsTokenWord,
		find: named,
	},
	// A line that is nothing else: of a key whose lines are apart, or what was told the
	// line before.
	{name: "secret", by: byLong, may: isAlone, find: alone},
}

// passwordLike says whether a word looks chosen as a password rather than as part of
// a sentence.
func passwordLike(s string) bool {
	if len(s) < 6 {
		return false
	}
	d := digits(s)
	if d == len(s) {
		return d >= 8
	}
	letters, others := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case isLetter(c):
			letters++
		case c < '0' || c > '9':
			others++
		}
	}
	if identifies(s) {
		return false
	}
	if letters == len(s) {
		return strings.ContainsAny(s, lowerLetters) && capitals(s) && !isCamelCase(s)
	}
	return d > 0 && letters > 0 || letters > 0 && others > 1 && strings.Trim(s, "()[]{}:;,.!?") == s && strings.ContainsAny(s, "!#$%^&*+=@~")
}

var camelCase = regexp.MustCompile(`^(?:[A-Z]*[a-z]+|[A-Z]+s?)(?:[A-Z]+[a-z]{2,})*[A-Z]*$`)

// isCamelCase says whether letters are words that capitals begin.
func isCamelCase(s string) bool {
	n := 0
	for i := range len(s) {
		if isCapital(s[i]) {
			n++
		}
	}
	return 5*n <= 2*len(s) && camelCase.MatchString(s)
}

// opaque says whether a value has nothing of a name: letters of both cases and
// digits, or 32 hexadecimal digits and more.
func opaque(s string) bool {
	lower, hex := false, true
	for i := range len(s) {
		c := s[i]
		lower = lower || c >= 'a' && c <= 'z'
		hex = hex && (c >= '0' && c <= '9' || c >= 'a' && c <= 'f')
	}
	return lower && capitals(s) && digits(s) > 0 || hex && len(s) >= 32
}

func capitals(s string) bool { return strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") }

var (
	toldQuoted = regexp.MustCompile(`(?i)^(?:password|passphrase|passcode)\b(?:\s+(?:is|was|set to|to|for \S+ is))?\s*[:→]?\s*(?:"((?:[^"\\]|\\.){3,})"|'([^']{3,})'|` + "`([^`]{3,})`)")
	toldAfter  = regexp.MustCompile(`(?i)^(?:password|passphrase|passcode|pass)\s*(?:(?:is|was|=>|→|->|is set to|set to|changed to|to|:)?:?\s+|\.{2,}["']?)([^\s"'` + "`" + `]{5,})`)
	toldLater  = regexp.MustCompile(`(?i)^(?:password|passphrase|passcode)\s[^:=\n{}<>]{1,90}:\s+([^\s"']{6,})`)
	toldChange = regexp.MustCompile(`(?i)^password changed from (\S{3,}) to (\S{3,})`)
	toldPair   = regexp.MustCompile(`(?i)\b(?:login|user)\s+[\w.-]+/([^\s"'/]{6,})\s.*password`)
)

// told finds passwords in sentences: the password is so and so.
func told(s string, found func(from, to int)) {
	for i := 0; i+8 <= len(s); i++ {
		if lowered[s[i]] != 'p' || i > 0 && isWord(s[i-1]) && s[i-1] != '_' || !hasWord(s, i, "pass") {
			continue
		}
		rest := s[i:min(len(s), i+longestTold)]
		for _, m := range toldQuoted.FindAllStringSubmatchIndex(rest, 1) {
			for g := 2; g < len(m); g += 2 {
				if m[g] < 0 {
					continue
				}
				if v := rest[m[g]:m[g+1]]; !states(v) && !sentence(v) && (strings.IndexByte(v, ' ') < 0 || !strings.ContainsAny(v, "=:{}")) && !(objectName.MatchString(v) && strings.ContainsAny(v, "-/.") && digits(v) == 0) {
					found(i+m[g], i+m[g+1])
				}
			}
		}
		toldWord(rest, toldAfter, i, found)
		if m := toldChange.FindStringSubmatchIndex(rest); m != nil {
			found(i+m[2], i+m[3])
			found(i+m[4], i+m[5])
			continue
		}
		if strings.Contains(rest, ": ") || strings.Contains(rest, ":\n") || strings.Contains(rest, ":\t") {
			toldWord(rest, toldLater, i, found)
		}
	}
	if strings.Contains(s, "/") && (strings.Contains(s, "login") || strings.Contains(s, "user")) {
		toldWord(s, toldPair, 0, found)
	}
}

// longestTold is how far behind the word password the password may stand.
const longestTold = 256

func toldWord(s string, re *regexp.Regexp, at int, found func(from, to int)) {
	m := re.FindStringSubmatchIndex(s)
	if m == nil {
		return
	}
	from, to := m[2], m[3]
	for to > from && strings.IndexByte(".,;:!?)", s[to-1]) >= 0 && re != toldLater {
		to--
	}
	if v := s[from:to]; passwordLike(v) && !states(v) && !pair.MatchString(v) && !isAddressLike(v) {
		found(at+from, at+to)
	}
}

// isAddressLike says whether a word is one of a machine, a file or a class.
var isAddressLike = regexp.MustCompile(`^(?:[\w-]+\.)+[\w-]+(?::\d+)?$|^\w+\(.*\)$|^[\w-]+/[\w./-]+$|^\[|^\d+[a-z]{1,3}$`).MatchString

var aloneRE = regexp.MustCompile(`^(?:\S{20,36} std(?:out|err) [FP] )?\s*([A-Za-z0-9+/_-]{20,}={0,2})\s*$`)

func isAlone(s string) bool {
	if len(s) > 4096 || len(s) < 20 {
		return false
	}
	last := strings.LastIndexByte(strings.TrimRight(s, " \t\r\n"), ' ')
	return last < 0 || strings.Trim(s[:last], " \t") == "" || s[0] >= '0' && s[0] <= '9' && strings.Contains(s[:last+1], " std")
}

// alone finds a value that has a line for itself.
func alone(s string, found func(from, to int)) {
	if m := aloneRE.FindStringSubmatchIndex(s); m != nil {
		if v := s[m[2]:m[3]]; !strings.HasPrefix(v, "AAAA") && capitals(v) && digits(v) > 0 && strings.ContainsAny(v, lowerLetters) && random(v) && !identifies(v) {
			found(m[2], m[3])
		}
	}
}

var namedRE = regexp.MustCompile(`(?i)(?:(public|host|peer) )?[\w.:/-]*(token|secret|credential|key)(?: is| was)? ["']?([A-Za-z0-9+/_=.-]{12,})`)

var base32 = regexp.MustCompile(`^[A-Z2-7]+$`)

// named finds what stands behind the word for it, without a sign.
func named(s string, found func(from, to int)) {
	for _, m := range namedRE.FindAllStringSubmatchIndex(s, -1) {
		v, word := s[m[6]:m[7]], strings.ToLower(s[m[4]:m[5]])
		switch {
		case m[2] >= 0:
		case word == "token" && uuidRE.MatchString(v), word == "secret" && len(v) >= 16 && base32.MatchString(v) && digits(v) > 0,
			len(v) >= 24 && random(v) && !identifies(v) && opaque(v),
			word == "secret" && opaque(v) && !isCamelCase(strings.TrimRight(v, "0123456789")):
			found(m[6], m[7])
		}
	}
}

// holdsTokenWord says whether a long word stands there, or one of letters and digits.
func holdsTokenWord(s string) bool {
	return holdsLongWord(s) || strings.Contains(s, "secret ") && digits(s) > 0
}

// holdsLongWord says whether 24 characters of a token stand in a row.
func holdsLongWord(s string) bool {
	for i := 23; i < len(s); {
		from := i
		for from > i-24 && (isWord(s[from]) || strings.IndexByte("+/=.-", s[from]) >= 0) {
			from--
		}
		if i-from == 24 {
			return true
		}
		i = from + 24
	}
	return false
}

// holdsCode says whether digits follow the word code.
func holdsCode(s string) bool {
	for {
		i := strings.Index(s, "code")
		if i < 0 {
			return false
		}
		s = s[i+4:]
		if digits(s[:min(len(s), 16)]) >= 3 {
			return true
		}
	}
}

// holdsFlag says whether a hyphen stands where a flag begins.
func holdsFlag(s string) bool {
	for i := 0; i+1 < len(s); i++ {
		if s[i] == '-' && (i == 0 || strings.IndexByte(" \t\n\"'[(,=", s[i-1]) >= 0) {
			return true
		}
	}
	return false
}

// holdsSeed says whether 58 capitals and digits stand in a row.
func holdsSeed(s string) bool {
	for i := 57; i < len(s); i += 58 {
		// Each of them holds one of these places.
		from := i
		for from >= 0 && (isCapital(s[from]) || s[from] >= '2' && s[from] <= '7') {
			from--
		}
		to := i
		for to < len(s) && (isCapital(s[to]) || s[to] >= '2' && s[to] <= '7') {
			to++
		}
		if to-from-1 >= 58 {
			return true
		}
	}
	return false
}

// holdsNoPrivateKey is false of PEM in base64 that says what only keys say.
func holdsNoPrivateKey(s string) bool {
	head := s[:min(len(s), 80)&^3]
	raw, err := base64.StdEncoding.DecodeString(head)
	return err == nil && strings.Contains(string(raw), "BEGIN") && !strings.Contains(string(raw), "PRIVATE")
}

var holdsSecretColumn = regexp.MustCompile(`(?i)passw|secret|token|pwd|api_?key|credential`).MatchString

var insertRE = regexp.MustCompile(`(?i)\b(?:insert|replace)\s+into\s+\S+\s*\(([^()]*)\)\s*values\s*(.*)`)

// inserted finds what a row holds that has a column for a secret: all texts of it,
// since a value may hold what separates them.
func inserted(s string, found func(from, to int)) {
	m := insertRE.FindStringSubmatchIndex(s)
	if m == nil {
		return
	}
	secret := false
	for c := range strings.SplitSeq(s[m[2]:m[3]], ",") {
		secret = secret || sensitiveEnd(strings.Trim(c, " \t\"`[]")) || strings.Contains(strings.ToLower(c), "passw")
	}
	for i := m[4]; secret && i < m[5]; {
		from, quote, slashes, ok := opening(s, i)
		if !ok {
			i++
			continue
		}
		to, next := closing(s, from, quote, slashes)
		found(from, min(to, m[5]))
		i = max(next, i+1)
	}
}

// ofKindSecret says whether a text holds a manifest of a Secret with values.
func ofKindSecret(s string) bool {
	return secretKindRE.MatchString(s) && (strings.Contains(s, "ata\"") || strings.Contains(s, "ata\\") || strings.Contains(s, "ata:\n"))
}

var (
	secretKindRE = regexp.MustCompile(`\bkind[\\"']*\s*:\s*[\\"']*Secret\b`)
	dataOpens    = regexp.MustCompile(`(?:\bdata|stringData)\\*"\s*:\s*\{`)
	dataBlock    = regexp.MustCompile(`(?m)^( *)(?:data|stringData):[ \t]*\n`)
	dataLine     = regexp.MustCompile(`^( +)[\w.-]+:[ \t]*(\S.*)$`)
)

// manifest finds the values of a manifest of a Secret, whatever they are called.
func manifest(s string, found func(from, to int)) {
	for _, m := range dataOpens.FindAllStringIndex(s, -1) {
		i, key := m[1], true
		for i < len(s) && s[i] != '}' {
			from, quote, slashes, ok := opening(s, i)
			if !ok {
				i++
				continue
			}
			to, next := closing(s, from, quote, slashes)
			if !key {
				found(from, to)
			}
			key, i = !key, max(next, i+1)
		}
	}
	for _, m := range dataBlock.FindAllStringSubmatchIndex(s, -1) {
		for i := m[1]; i < len(s); {
			end := len(s)
			if n := strings.IndexByte(s[i:], '\n'); n >= 0 {
				end = i + n
			}
			l := dataLine.FindStringSubmatchIndex(s[i:end])
			if l == nil || l[3] <= m[3]-m[2] {
				break
			}
			found(i+l[4], i+l[5])
			i = end + 1
		}
	}
}
