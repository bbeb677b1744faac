package redact

import (
	"regexp"
	"strings"
)

// sensitiveNames are how keys end whose values are secrets, in lower case and
// without what joins words.
var sensitiveNames = []string{
	"password", "passwd", "passphrase", "pwd", "secret", "token", "apikey", "secretkey", "secretaccesskey", "accesskey", "privatekey", "encryptionkey",
	"signingkey", "masterkey", "accountkey", "licensekey", "credential", "credentials", "connectionstring", "otp", "pincode",
}

// sensitiveWords are one in each key that sensitiveNames or tellingWords make
// sensitive.
var sensitiveWords = []string{
	"passw", "pwd", "passphrase", "secret", "token", "apikey", "_key", "-key", ".key", "accesskey", "privatekey", "encryptionkey", "signingkey", "masterkey", "accountkey",
	"licensekey", "credential", "connectionstring", "connection_string", "connection-string", "connection.string", "otp", "pincode", "pin_code", "pin-code", "pin.code",
	"session_id", "session-id", "sessionid",
}

// sensitiveEnd says whether a key names a secret.
func sensitiveEnd(key string) bool {
	var b [longestKey]byte
	n := 0
	for i := range len(key) {
		if c := lowered[key[i]]; c != '_' && c != '-' && c != '.' && n < len(b) {
			b[n] = c
			n++
		}
	}
	for _, name := range sensitiveNames {
		if n >= len(name) && string(b[n-len(name):n]) == name {
			return true
		}
	}
	return false
}

var sensitiveKey = regexp.MustCompile(`(?i)(?:^|[_.-])(?:passw(?:or)?d|secret|token|api[_-]?key|credentials?|private[_-]?key)$`)

// tellingWords make a key sensitive in which they stand anywhere, if its value
// is random: apiTokenValue, password_old.
var tellingWords = []string{"passw", "secret", "token", "credential", "apikey", "api_key", "api-key", "access_key", "accesskey", "access-key", "private_key", "encryption_key", "session_id", "session-id", "sessionid"}

// providers are names by which the keys of configuration of services are
// called; a random value behind one is its secret.
var providers = []string{
	"adafruit", "adobe", "airtable", "algolia", "alibaba", "artifactory", "asana", "atlassian", "beamer", "bintray", "bitbucket", "bittrex", "cloudflare",
	"codecov", "cohere", "co_api_key", "coinbase", "confluence", "confluent", "contentful", "contribsys", "datadog", "discord", "dnkey", "droneci", "dropbox", "etsy", "facebook",
	"fastly", "finicity", "finnhub", "flickr", "freshbooks", "gitter", "gocardless", "heroku", "hubspot", "intercom", "jfrog", "jira", "kraken", "kucoin",
	"launchdarkly", "linear", "linkedin", "linked_in", "linked-in", "lob_", "lob-", "lobtoken", "lobapi", "looker", "mailchimp", "mailgun", "mapbox", "mattermost", "meraki", "message_bird", "message-bird",
	"messagebird", "netlify", "new-relic", "new_relic", "newrelic", "nytimes", "new-york-times", "newyorktimes", "okta", "plaid", "private_ai", "private-ai",
	"privateai", "rapidapi", "sendbird", "sentry", "snyk", "sonar", "square", "squarespace", "sumo", "telegr", "travis", "twitch", "twitter", "typeform",
	"xray", "yandex", "zendesk",
}

// Bounds of what is looked at around a sign of assignment.
const (
	longestKey = 80
	farthest   = 6 // spaces and quotes between key, sign and value
)

// assignments masks the values that are given to sensitive keys, in logfmt,
// JSON, YAML, queries, programs and prose.
func (r *Redactor) assignments(s string) string {
	var b strings.Builder
	last := 0
	for i := 1; i < len(s); i++ {
		if !isSign[s[i]] || i < last {
			continue
		}
		from, to, name := assigned(s, i)
		if name == "" || insideMask(s, i) {
			continue
		}
		if value := s[from:to]; maskRE.MatchString(value) || insideMask(s, from) {
			continue
		}
		b.WriteString(s[last:from])
		b.WriteString(r.mask(name, s[from:to]))
		last = to
	}
	if last == 0 {
		return s
	}
	b.WriteString(s[last:])
	return b.String()
}

var pair = regexp.MustCompile(`^[a-z][a-z_.-]{1,24}=[^=]`)

var isSign = [256]bool{'=': true, ':': true, '>': true, ',': true, '|': true}

// assigned is where the secret lies that the sign at s[i] gives to a key, and
// how its mask is called; "" when it gives none.
func assigned(s string, i int) (from, to int, name string) {
	// The whole sign: =, :, :=, ::=, =>, ||, ?=, .=, a comma, the end of a tag.
	start := i
	if start > 0 && isSign[s[start-1]] && s[start-1] != ',' {
		return 0, 0, "" // the first one has been looked at
	}
	if s[start-1] == '?' || s[start-1] == '.' || s[start-1] == '+' {
		start--
	}
	end := i + 1
	for end < len(s) && end < i+4 && isSign[s[end]] && s[end] != ',' {
		end++
	}
	key, before := keyBefore(s, start)
	if key == "" {
		return 0, 0, ""
	}
	sign := s[i:end]
	strong := sign != "," && sign != ">" && sign != "|" && sign != "||"
	strict := strong && sensitiveEnd(key) && !namesObject(key)
	by := ""
	if !strict {
		if by = telling(key, before); by == "" {
			return 0, 0, ""
		}
	}
	from, to = valueAfter(s, end, strict)
	if to-from < 3 {
		return 0, 0, ""
	}
	value := s[from:to]
	if !strict && pair.MatchString(value) {
		return 0, 0, "" // the next key, which is asked for itself
	}
	switch {
	case strict && !harmless(value) && !(strings.EqualFold(key, "secret") && objectName.MatchString(value)),
		by == "word" && len(value) >= 10 && random(value) && !identifies(value),
		by == "provider" && (uuidRE.MatchString(value) || len(value) >= 14 && random(value) && !identifies(value) || len(value) >= 16 && digits(value) == len(value)):
		return from, to, "secret"
	}
	return 0, 0, ""
}

// keyBefore is the name that ends before s[i], and what stands before it on the
// line.
func keyBefore(s string, i int) (key, before string) {
	for n := 0; i > 0 && n < farthest && strings.IndexByte(" \t\r\n\f\"'`\\]", s[i-1]) >= 0; n++ {
		i--
	}
	j := i
	for j > 0 && i-j < longestKey && (isWord(s[j-1]) || s[j-1] == '-' || s[j-1] == '.' || s[j-1] >= 0x80) {
		j--
	}
	return s[j:i], s[max(0, j-30):j]
}

// valueAfter is where the value lies that begins behind s[i].
func valueAfter(s string, i int, strict bool) (from, to int) {
	var open byte
	for n := 0; i < len(s) && n < farthest+2; n++ {
		switch c := s[i]; {
		case c == '"' || c == '\'' || c == '`':
			open = c
		case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\''):
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '=':
			if open != 0 {
				n = farthest + 2
				continue
			}
		default:
			n = farthest + 2
			continue
		}
		i++
	}
	from = i
	if open != 0 && strict {
		// A passphrase may hold spaces: up to the quote that closes it.
		if n := strings.IndexByte(s[from:], open); n >= 0 {
			to = from + n
			for to > from && s[to-1] == '\\' {
				to--
			}
			return from, to
		}
	}
	to = from
	for to < len(s) && strings.IndexByte(" \t\r\n\f\v\"'`\\,;&|<>(){}[]", s[to]) < 0 {
		to++
	}
	for to > from && (s[to-1] == '.' || s[to-1] == ':' || s[to-1] == '!' || s[to-1] == '?') {
		to--
	}
	return from, to
}

// telling says why a random value of a key would be a secret: "word",
// "provider", or "" when it would not.
func telling(key, before string) string {
	k := key
	if isTypeOfValue(strings.ToLower(k)) { // var adafruitToken string = …
		fields := strings.Fields(before)
		if len(fields) == 0 {
			return ""
		}
		k = fields[len(fields)-1]
	}
	f := builtinIndex.scan(k)
	if !f.names && !f.provider {
		k = ""
	}
	k = strings.ToLower(k)
	for _, plain := range []string{"trace", "span", "request_id", "requestid", "request-id", "digest", "checksum", "revision", "commit", "version", "image", "-ray", "_ray"} {
		if strings.Contains(k, plain) {
			return ""
		}
	}
	if f.provider {
		return "provider"
	}
	for _, w := range tellingWords {
		if strings.Contains(k, w) {
			return "word"
		}
	}
	// A word or two may stand between the name of a provider and the sign.
	rest := before
	if cut := strings.LastIndexAny(rest, ",;:=/()[]{}\"'"); cut >= 0 {
		rest = rest[cut+1:]
	}
	if builtinIndex.scan(rest).provider {
		return "provider"
	}
	return ""
}

func isTypeOfValue(k string) bool { return k == "string" || k == "str" || k == "text" || k == "char" }

// namesObject says whether a key names a Kubernetes Secret instead of holding
// one.
func namesObject(key string) bool {
	k := strings.ToLower(key)
	return strings.HasSuffix(k, "imagepullsecret")
}

// objectName is namespace/name, as controllers write of a Secret.
var objectName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

var uuidRE = regexp.MustCompile(`^[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)

// identifies says whether a value is what a cluster names things by: a digest,
// a UUID, a pod, an address, a time.
var identifiesRE = regexp.MustCompile(`^(?:sha\d+[:-].*|[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}.*|[a-z][a-z0-9]*(?:-[a-z0-9]+)*-[a-z0-9]{4,10}(?:-[a-z0-9]{5})?|[\d.:/]+|\d{4}-\d\d-\d\d.*|v?\d+\.\d+.*|(?:\d{1,6}(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d|[KMGT]i?B?))+)$`)

func identifies(s string) bool {
	return strings.HasPrefix(s, "0x") || identifiesRE.MatchString(s) || strings.Contains(s, "://") || strings.HasPrefix(s, "/")
}
