package redact

import "strings"

// kind is what a key says of its value.
type kind int

const (
	ordinary   kind = iota
	secretKind      // whatever it is, it is a secret
	phraseKind      // the same, and it may be several words
	digitsKind      // three to eight digits are a secret: a PIN, a code
	randomKind      // a random value is one
	longKind        // a long random value is one
	ofService       // a random value is the secret of a service
	phoneKind       // it is the number of a telephone
)

// sensitiveNames are how keys end whose values are secrets, in lower case and
// without what joins words.
var sensitiveNames = []string{
	"password", "passwd", "passphrase", "passcode", "passwort", "contraseña", "motdepasse", "senha", "wachtwoord", "hasło", "пароль", "密码", "パスワード", "passwordconfirmation", "passwordconfirm", "passwordrepeat", "passwordagain", "passwordhash", "passwordvalue", "password1", "password2", "pwd", "secret", "token", "apikey", "secretkey", "secretaccesskey", "accesskey", "privatekey", "encryptionkey",
	"signingkey", "masterkey", "accountkey", "licensekey", "credential", "credentials", "connectionstring", "passwords", "tokens", "secrets", "apikeys", "secretanswer",
	"snmpcommunity", "etcdctluser", "erlangcookie", "dockerconfigjson", "samlresponse", "samlrequest", "samlassertion", "mnemonic", "seedphrase", "recoveryphrase", "requirepass",
	"masterauth", "keydata", "jaasconfig", "authkey", "unsealkey", "fernetkey", "sharedkey", "presharedkey", "honeycombteam", "remembertoken", "rememberme",
}

// shortNames are whole words at the end of such keys: DB_PASS and RootPass, but not
// bypass.
var shortNames = []string{"pass", "pw", "psk"}

// digitNames are how keys end whose values are secret where they are digits.
var digitNames = []string{"otp", "totp", "pincode", "mfacode", "otpcode", "verificationcode", "authcode", "securitycode", "cvv", "cvv2", "cvc", "pin", "ssn"}

// longNames are words at the end of keys whose values are secret where they are
// long and random.
var longNames = []string{"key", "keys", "auth", "basic", "session", "sid", "sessid", "sessionid", "signature", "sig", "assertion", "verifier", "cookie", "signaturevalue", "salt"}

// phoneNames are how keys end whose values are numbers of telephones.
var phoneNames = []string{"phone", "phonenumber", "mobile", "mobilenumber", "msisdn", "telephone", "cellphone", "whatsapp", "tel", "fax"}

// plainKeys are keys of which the value is known to be no secret, whatever it looks
// like: what they identify is what an engineer looks for.
var plainKeys = []string{"partition", "idempot", "cache", "primary", "foreign", "sort", "hash", "public", "dedup", "group", "shard", "row", "object", "lookup", "message", "event", "storage", "file", "blob", "pub", "registry", "websocket", "host", "shared_informer", "index", "composite", "unique"}

// sensitiveWords are one in each key that has a kind of its own.
var sensitiveWords = []string{
	"pass", "pwd", "secret", "token", "apikey", "_key", "-key", ".key", "accesskey", "privatekey", "encryptionkey", "signingkey", "masterkey", "accountkey",
	"licensekey", "credential", "connectionstring", "connection_string", "connection-string", "connection.string", "otp", "pincode", "pin_code", "pin-code", "pin.code",
	"session", "sessid", "jsession", "_pw", "-pw", "bindpw", "_psk", "psk=", "psk:", "\"pw\"", "cookie", "contrase", "senha", "wachtwoord", "hasło", "пароль", "密码", "パスワード", "honeycomb-team", "remember_me", "samlre", "assertion", "mnemonic", "phrase", "community", "etcdctl_user", "dockerconfig", "masterauth", "key-data",
	"keydata", "authkey", "unsealkey", "fernetkey", "sharedkey", "cvv", "cvc", "ssn", "pin", "mfa_code", "mfacode", "verificationcode", "verification_code", "auth_code", "authcode", "security_code",
	"_auth", "auth_", "\"auth\"", "auth=", "auth\\\"", "'auth'", "signature", "verifier", "phone", "mobile", "msisdn", "whatsapp", "tel", "fax", "sid", "jaas",
}

// keyWord ends the names of more than keys, and is looked for only where a value
// follows.
const keyWord = "key"

// bare is a key in lower case without what joins its words, of its last characters.
func bare(key string, b *[longestKey]byte) string {
	n := 0
	for i := range len(key) {
		if c := lowered[key[i]]; c != '_' && c != '-' && c != '.' && n < len(b) {
			b[n] = c
			n++
		}
	}
	return string(b[:n])
}

func endsWith(k string, names []string) bool {
	for _, name := range names {
		if strings.HasSuffix(k, name) {
			return true
		}
	}
	return false
}

// endsInWord says whether one of some names is the last word of a key, as its
// capitals or what joins its words say.
func endsInWord(key string, names []string) bool {
	for _, name := range names {
		at := len(key) - len(name)
		if at < 0 || !strings.EqualFold(key[at:], name) {
			continue
		}
		if at == 0 || !isLetter(key[at-1]) || isCapital(key[at]) && (!isCapital(key[at-1]) || !isCapital(key[at+1])) {
			return true
		}
	}
	return false
}

func isLetter(c byte) bool  { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
func isCapital(c byte) bool { return c >= 'A' && c <= 'Z' }

// sensitiveEnd says whether a key names a secret.
func sensitiveEnd(key string) bool {
	k := kindByEnd(key)
	return k == secretKind || k == phraseKind
}

// kindByEnd is the kind that the end of a key says.
func kindByEnd(key string) kind {
	var b [longestKey]byte
	k := bare(key, &b)
	switch {
	case k == "":
		return ordinary
	case strings.HasSuffix(k, "secretid"):
		return ofService
	case strings.HasSuffix(k, "phrase"), strings.HasSuffix(k, "mnemonic"):
		return phraseKind
	case endsWith(k, sensitiveNames), endsInWord(key, shortNames):
		return secretKind
	case endsWith(k, digitNames) && (endsInWord(key, digitNames) || len(k) > 4 && endsWith(k, []string{"code", "totp"})):
		return digitsKind
	case endsWith(k, phoneNames) && (endsInWord(key, phoneNames) || strings.HasSuffix(k, "number")):
		return phoneKind
	case endsInWord(key, longNames):
		lower := strings.ToLower(key)
		for _, p := range plainKeys {
			if strings.Contains(lower, p) {
				return ordinary
			}
		}
		if k == keyWord {
			return ordinary // of anything that has keys
		}
		return longKind
	}
	return ordinary
}

// tellingWords make a key sensitive in which they stand anywhere, if its value
// is random: apiTokenValue, password_old.
var tellingWords = []string{"passw", "secret", "token", "credential", "apikey", "api_key", "api-key", "access_key", "accesskey", "access-key", "private_key", "encryption_key", "session_id", "session-id", "sessionid"}

// aboutSecrets are how keys end that say something of a secret instead of what it is.
var aboutSecrets = []string{
	"name", "file", "path", "type", "method", "algorithm", "encryption", "policy", "length", "ttl", "header", "count", "age", "days", "version", "url", "uri", "host", "port", "email",
	"status", "state", "format", "expiry", "expires", "expiresin", "at", "enabled", "required", "mode", "ref", "keyref", "use", "manager", "store", "class", "namespace", "kind", "provider", "issuer", "scope", "audience",
}

// providers are names by which the keys of configuration of services are
// called; a random value behind one is its secret.
var providers = []string{
	"adafruit", "adobe", "airtable", "algolia", "alibaba", "artifactory", "asana", "atlassian", "beamer", "bintray", "bitbucket", "bittrex", "cloudflare",
	"codecov", "cohere", "co_api_key", "coinbase", "confluence", "confluent", "contentful", "contribsys", "datadog", "discord", "dnkey", "droneci", "dropbox", "etsy", "facebook",
	"fastly", "finicity", "finnhub", "flickr", "freshbooks", "gitter", "gocardless", "heroku", "hubspot", "intercom", "jfrog", "jira", "kraken", "kucoin",
	"launchdarkly", "linear", "linkedin", "linked_in", "linked-in", "lob_", "lob-", "lobtoken", "lobapi", "looker", "mailchimp", "mailgun", "mapbox", "mattermost", "meraki", "message_bird", "message-bird",
	"messagebird", "netlify", "new-relic", "new_relic", "newrelic", "nytimes", "new-york-times", "newyorktimes", "okta", "plaid", "private_ai", "private-ai",
	"privateai", "rapidapi", "sendbird", "sentry", "snyk", "sonar", "square", "squarespace", "sumo", "telegr", "travis", "twitch", "twitter", "typeform",
	"xray", "yandex", "zendesk", "instrumentationkey",
}

// kindOfKey is what a key says, by how it ends, by a word in it, or by what stands
// before it on the line.
func kindOfKey(key, before string, f found) kind {
	if !f.names {
		return telling(key, before, f)
	}
	k := kindByEnd(key)
	if namesObject(key) {
		return ordinary
	}
	if k == ordinary || k == longKind && f.provider {
		return telling(key, before, f)
	}
	return k
}

// telling is the kind of a key that does not end in what it says.
func telling(key, before string, f found) kind {
	k := key
	if isTypeOfValue(k) { // var adafruitToken string = …
		fields := strings.Fields(before)
		if len(fields) == 0 {
			return ordinary
		}
		k = fields[len(fields)-1]
		f = builtinIndex.scan(k)
	}
	if !f.names && !f.provider {
		k = ""
	}
	k = strings.ToLower(k)
	for _, plain := range []string{"trace", "span", "request_id", "requestid", "request-id", "digest", "checksum", "revision", "commit", "version", "image", "-ray", "_ray"} {
		if strings.Contains(k, plain) {
			return ordinary
		}
	}
	if f.provider {
		return ofService
	}
	if k != "" && !endsInWord(key, aboutSecrets) {
		for _, w := range tellingWords {
			if strings.Contains(k, w) {
				return randomKind
			}
		}
	}
	// A word or two may stand between the name of a provider and the sign.
	rest := before
	if cut := strings.LastIndexAny(rest, ",;:=/()[]{}\"'"); cut >= 0 {
		rest = rest[cut+1:]
	}
	if builtinIndex.scan(rest).provider {
		return ofService
	}
	return ordinary
}

func isTypeOfValue(k string) bool {
	switch len(k) {
	case 3, 4, 6:
		return strings.EqualFold(k, "string") || strings.EqualFold(k, "str") || strings.EqualFold(k, "text") || strings.EqualFold(k, "char")
	}
	return false
}

// namesObject says whether a key names a Kubernetes Secret instead of holding
// one.
func namesObject(key string) bool {
	k := strings.ToLower(strings.TrimSuffix(key, "s"))
	return strings.HasSuffix(k, "imagepullsecret") || strings.HasSuffix(k, "existingsecret") || strings.HasSuffix(k, "tlssecret") || strings.HasSuffix(k, "externalsecret")
}
