package redact

import (
	"math"
	"regexp"
	"slices"
	"strings"
)

// The rules, most specific first. Tokens of providers are anchored by their own
// prefixes; the structural rules at the end find what has no prefix by where it
// stands: behind a sensitive key, in a header, in the user part of a URL.
var builtin = slices.Concat(ofSecrets, ofTools, ofPeople)

var ofSecrets = []rule{
	{name: "private-key", words: []string{"private key"}, re: regexp.MustCompile(`(?i)-----BEGIN[^-]{0,60}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:KEY(?: BLOCK)?-----|$)`)},
	{name: "jwt", by: byLong, may: contains(".ey"), re: regexp.MustCompile(`\bey[A-Za-z0-9_-]{8,}\.ey[A-Za-z0-9_/\\-]{8,}(?:\.[A-Za-z0-9_/\\-]*=*)?`)},
	{name: "aws-key", words: []string{"akia", "asia", "abia", "acca", "aroa", "aida"}, re: regexp.MustCompile(`\b(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z2-7]{16}\b`)},
	{name: "aws-key", words: followed("a3t", "abcdefghijklmnopqrstuvwxyz0123456789"), re: regexp.MustCompile(`\bA3T[A-Z0-9][A-Z2-7]{16}\b`)},
	{name: "slack-webhook", words: []string{"hooks.slack.com"}, re: regexp.MustCompile(`hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_+-]{20,})`), group: 1},
	{name: "teams-webhook", words: []string{"webhook.office.com", "logic.azure.com", "outlook.office.com"}, re: regexp.MustCompile(`(?:webhook\.office\.com|logic\.azure\.com|outlook\.office\.com/webhook)[:0-9]*/([^\s"']{20,})`), group: 1},
	{name: "discord-webhook", words: []string{"/webhooks/"}, re: regexp.MustCompile(`/webhooks/\d{15,21}/([A-Za-z0-9_-]{30,})`), group: 1},
	{name: "webhook", words: []string{"hooks.zapier.com", "maker.ifttt.com", "victorops.com", "/bot/v2/hook", "/hooks/"}, re: regexp.MustCompile(`(?:hooks\.zapier\.com/hooks/catch/\d+|maker\.ifttt\.com/trigger/[^/\s]+/(?:json/)?with/key|victorops\.com/integrations/[a-z]+/\d+/alert|/bot/v2/hook|/hooks)/([a-z0-9]{26}\b|[A-Za-z0-9_-]{7,})`), group: 1, keep: func(s string) bool { return !random(s) && len(s) != 7 && len(s) != 26 }},
	{name: "discord-token", by: byLong, may: holdsDiscord, re: regexp.MustCompile(`\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}\b`), keep: func(s string) bool { return !random(s) || !capitals(s) }},
	{name: "nats-seed", by: byLong, may: holdsSeed, re: regexp.MustCompile(`\bS[AUONCX][A-Z2-7]{56}\b`)},
	{name: "newrelic-key", words: []string{"nral"}, re: regexp.MustCompile(`\b[0-9a-f]{32,36}NRAL\b`)},
	{name: "mailchimp-key", words: followed("-us", "123456789"), re: regexp.MustCompile(`\b[0-9a-f]{32}-us\d{1,2}\b`)},
	{name: "twilio-key", words: []string{"twilio"}, re: regexp.MustCompile(`\bAC[0-9a-f]{32}["',:\s]+([0-9a-f]{32})\b`), group: 1},
	{name: "paypal-token", words: []string{"access_token$"}, re: regexp.MustCompile(`access_token\$(?:production|sandbox)\$([a-z0-9]+\$[0-9a-f]{32})`), group: 1},
	{name: "private-key", words: []string{"ls0tls1crudjti"}, re: regexp.MustCompile(`LS0tLS1CRUdJTi[A-Za-z0-9+/_-]{20,}={0,2}`), keep: holdsNoPrivateKey},
	{name: "registry-key", words: []string{"eyjhdxrocyi6", "eyjhdxrocyig", "ewogicjhdxro", "ewoicsjhdxro", "ewojimf1dghz"}, re: regexp.MustCompile(`\b(?:eyJhdXRocyI6|eyJhdXRocyIg|ewogICJhdXRo|ewoJImF1dGhz|ewogICAgImF1dGhz)[A-Za-z0-9+/_-]{16,}={0,2}`)},
	{name: "secret", words: []string{"private-lines:"}, re: regexp.MustCompile(`(?s)Private-Lines: \d+\s+(.*?)(?:Private-MAC|$)`), group: 1},
	{name: "secret", words: []string{"nkey seed"}, re: regexp.MustCompile(`(?s)BEGIN USER NKEY SEED-+\s+(.*?)(?:-----|$)`), group: 1},
	{name: "twilio-key", by: byLong, may: contains("SK"), re: regexp.MustCompile(`\bSK[0-9a-fA-F]{32}\b`)},
	{name: "vault-token", by: byLong, may: holdsOldVault, re: regexp.MustCompile(`(?:^|[\s"'=:])(s\.[A-Za-z0-9]{24})(?:$|[^\w.-])`), group: 1},
	{name: "azure-secret", by: byTilde, may: contains("Q~"), re: regexp.MustCompile(`[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}`)},
	{name: "maxmind-key", words: []string{"_mmk"}, re: regexp.MustCompile(`[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk`)},
	{name: "terraform-token", words: []string{".atlasv1."}, re: regexp.MustCompile(`(?i)[a-z0-9]{14}\.atlasv1\.[a-z0-9_=-]{60,70}`)},
	{name: "airtable-token", by: byLong, may: holdsAirtable, re: regexp.MustCompile(`\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}`)},
	{name: "facebook-token", by: byDigits, may: func(s string) bool { return strings.ContainsAny(s, "|%") }, re: regexp.MustCompile(`(?i)\b\d{15,16}[|%][0-9a-z_-]{27,40}`)},
	{name: "telegram-token", words: followed(":aa", "abcdefghijklmnopqrstuvwxyz0123456789-_"), re: regexp.MustCompile(`(?:\b|bot)(\d{8,10}:AA[A-Za-z0-9_-]{32,33})(?:$|[^A-Za-z0-9_-])`), group: 1},
	{name: "azure-key", words: []string{"accountkey=", "sharedaccesskey="}, re: regexp.MustCompile(`(?i)(?:AccountKey|SharedAccessKey)=([A-Za-z0-9+/]{20,}={0,2})`), group: 1},
	{name: "sas", words: []string{"sig="}, re: regexp.MustCompile(`(?i)[?&]sig=([A-Za-z0-9%/+=_-]{20,})`), group: 1},

	{name: "secret", words: []string{"code="}, re: regexp.MustCompile(`\bcode=([A-Za-z0-9._~/%-]{20,})`), group: 1, keep: func(s string) bool { return !random(s) || identifies(s) }},

	// Structure: the value of a header of credentials.
	{name: "secret", words: []string{"authorization"}, find: credentials},
	{
		name: "secret", words: []string{"x-api-key", "x-auth-token", "apikey", "api-key", "x-vault-token", "private-token", "x-amz-security-token"},
		re:    regexp.MustCompile(`(?i)(?:x-api-key|x-auth-token|x-vault-token|private-token|x-amz-security-token|api-?key)\\?["']?\s*[:=]\s*\[?\\?["']?([^\s"'\\,;\]}<]{6,})`),
		group: 1, keep: harmless,
	},
	{name: "secret", words: []string{"bearer ", "basic ", "apikey ", "geniekey ", "auth plain ", "auth login ", "auth xoauth2 "}, re: regexp.MustCompile(`(?i)\b(?:bearer|basic|apikey|geniekey|auth (?:plain|login|xoauth2))\s+([A-Za-z0-9._~+/=-]{16,})`), group: 1, keep: func(s string) bool { return !random(s) }},
	{name: "cookie", words: []string{"cookie"}, re: regexp.MustCompile(`(?i)(?:\b|_)(?:set-)?cookies?\\{0,3}["']?\s*(?:[:=]>?|=>|,)\s*[\[({]*\s*\\{0,3}["']?([^\s"'\\\]{[(][^"'\\\]\r\n]{5,})`), group: 1, keep: func(s string) bool { return harmless(s) || !strings.ContainsRune(s, '=') && !random(s) }},
	{name: "secret", words: []string{"curl"}, may: contains("u"), re: regexp.MustCompile(`\bcurl\b.*?\s(?:-u\s*|-[a-zA-Z]{1,6}u\s+|--user[= ]\s*)("[^"]{3,}"|'[^']{3,}'|(?:"[^"]{3,}"|'[^']{3,}'|[^\s:"']+):[^\s]{3,})`), group: 1, keep: func(s string) bool { return strings.Contains(s, ":$") }},
	// The user part of a URL and of a DSN.
	{name: "secret", by: byAt, may: namesUser, find: userInfo},
	{name: "secret", by: byAt, may: holdsLogin, re: regexp.MustCompile(`(?:^|[\s"'=])[A-Za-z][\w.-]*:([^\s:@/"'<>\\]{3,})@[\w-]+(?:\.[\w-]+)+[/:]`), group: 1},
	{name: "secret", words: []string{"@tcp(", "@unix("}, re: regexp.MustCompile(`\b[\w.-]+:([^\s"']+)@(?:tcp|unix)\(`), group: 1},
	{
		name: "secret", words: []string{"password", "passwd", "token", "secret", "api-key", "-pass", "-key", "passphrase", "-auth", "storepass", "keypass"}, may: holdsFlag,
		re:    regexp.MustCompile(`(?i)(?:^|[\s"'\[(,=])--?(?:[\w.-]*[-_.])?(?:password|passwd|pass|token|secret|api-key|secret-key|access-key|unseal-key|certificate-key|passphrase|storepass|keypass|auth)(?:\s+|["'],?\s*["'])([^\s"'-][^\s"']{2,})`),
		group: 1, keep: func(s string) bool { return states(s) || digits(s) == len(s) && len(s) < 6 },
	},
}

// followed makes words of three bytes and each of some that may follow.
func followed(word, by string) (out []string) {
	for i := range len(by) {
		out = append(out, word+by[i:i+1])
	}
	return out
}

// holdsLogin says whether name:password@host stands in s, and a port or a path behind.
func holdsLogin(s string) bool {
	for i := range len(s) {
		if s[i] != '@' {
			continue
		}
		to := i + 1
		for to < len(s) && (isWord(s[to]) || s[to] == '.' || s[to] == '-') {
			to++
		}
		if to == len(s) || s[to] != '/' && s[to] != ':' {
			continue
		}
		from := i
		for from > 0 && s[from-1] > ' ' && s[from-1] != ':' && s[from-1] != '@' {
			from--
		}
		if from > 1 && s[from-1] == ':' && isWord(s[from-2]) {
			return true
		}
	}
	return false
}

// holdsDiscord says whether six characters stand between two dots.
func holdsDiscord(s string) bool {
	for i := 24; i+34 < len(s); i++ {
		if s[i] != '.' || s[i+7] != '.' {
			continue
		}
		from := i
		for from > 0 && (isWord(s[from-1]) || s[from-1] == '-') {
			from--
		}
		if i-from >= 24 {
			return true
		}
	}
	return false
}

// namesUser says whether a URL of s could have a user part.
func namesUser(s string) bool {
	for {
		i := strings.Index(s, "://")
		if i < 0 {
			return false
		}
		s = s[i+3:]
		end := strings.IndexAny(s, " \t\r\n\f\v\"'<>")
		if end < 0 {
			end = len(s)
		}
		if strings.IndexByte(s[:end], '@') >= 0 {
			return true
		}
	}
}

// holdsAirtable says whether a dot stands where it does in a token that begins with
// pat, as every path does.
func holdsAirtable(s string) bool {
	for i := strings.Index(s, "pat"); i >= 0 && i+17 < len(s); {
		if s[i+17] == '.' {
			return true
		}
		next := strings.Index(s[i+3:], "pat")
		if next < 0 {
			return false
		}
		i += 3 + next
	}
	return false
}

// holdsOldVault says whether 24 letters and digits follow an s and a dot.
func holdsOldVault(s string) bool {
	for i := strings.Index(s, "s."); i >= 0; {
		j := i + 2
		for j < len(s) && isWord(s[j]) && s[j] != '_' {
			j++
		}
		if j-i-2 == 24 {
			return true
		}
		next := strings.Index(s[i+2:], "s.")
		if next < 0 {
			return false
		}
		i += 2 + next
	}
	return false
}

// words state something about a secret.
var words = map[string]bool{
	"": true, "true": true, "false": true, "null": true, "nil": true, "none": true, "undefined": true, "empty": true, "missing": true, "invalid": true,
	"expired": true, "required": true, "not": true, "is": true, "was": true, "has": true, "and": true, "or": true, "for": true, "from": true, "the": true,
	"found": true, "failed": true, "error": true, "unknown": true, "redacted": true, "masked": true, "filtered": true, "removed": true, "omitted": true, "sanitized": true, "elided": true, "hidden": true, "unset": true, "set": true, "yes": true, "no": true,
	"ok": true, "valid": true, "rejected": true, "accepted": true, "refreshed": true, "rotated": true, "revoked": true, "created": true, "deleted": true, "updated": true,
	"string": true, "bytes": true, "incorrect": true, "wrong": true, "bad": true, "unauthorized": true, "forbidden": true, "denied": true, "mismatch": true, "authentication": true,
	"secret": true, "secrets": true, "token": true, "password": true, "object": true, "user": true, "mode=rbac": true, "mode=webhook": true, "mode=node": true,
	"bearer": true, "basic": true, "default": true, "loaded": true, "cannot": true, "could": true, "unexpected": true, "eof": true, "syntax": true, "authorization": true, "got": true, "no-cache": true,
}

func digits(s string) int {
	n := 0
	for i := range len(s) {
		if s[i] >= '0' && s[i] <= '9' {
			n++
		}
	}
	return n
}

// random says whether a token is random enough not to be a word: letters and
// digits together, Shannon entropy above 3.5 bits a character, or small and
// capital letters that take turns.
func random(s string) bool {
	var count [256]int
	hasDigit, hasLetter, rises := false, false, 0
	for i := range len(s) {
		count[s[i]]++
		hasDigit = hasDigit || s[i] >= '0' && s[i] <= '9'
		hasLetter = hasLetter || s[i] >= 'A'
		if i > 0 && s[i] >= 'A' && s[i] <= 'Z' && s[i-1] >= 'a' && s[i-1] <= 'z' {
			rises++
		}
	}
	h := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(s))
			h -= p * math.Log2(p)
		}
	}
	return hasDigit && hasLetter && h > 2 || h > 3.5 || rises >= 3
}
