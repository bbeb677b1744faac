package grounding

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// separates are the runes between words. What names and numbers are written
// with is not among them.
func separates(r rune) bool {
	switch r {
	case '.', '_', '/', ':', '%', '+', '@', '-', ',', '?', '!', '°', '~', '\'':
		return false
	}
	return !unicode.IsLetter(r) && !unicode.IsDigit(r)
}

// edges are trimmed off words.
const edges = `.,:;?!"'` + "`" + `()[]{}<>~+-@/%`

var (
	timestamp = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)t((\d\d:\d\d):\d\d)(?:\.\d+)?(?:z|[+-]\d\d:\d\d)?$`)
	clockTime = regexp.MustCompile(`^\d\d?:\d\d(:\d\d)?$`)
	amount    = regexp.MustCompile(`^[x~+-]?(\d+(?:,\d{3})*)(\.\d+)?(%|x|[a-z]{1,5})?$`)
	durations = regexp.MustCompile(`^(?:\d+(?:\.\d+)?(?:d|h|m|s|ms))+$`)
)

// number is the plain form of a number with an optional unit: "12.50%" is
// "12.5", "1,200" is "1200".
func number(w string) (string, bool) {
	m := amount.FindStringSubmatch(w)
	if m == nil {
		return "", false
	}
	v, err := strconv.ParseFloat(strings.ReplaceAll(m[1], ",", "")+m[2], 64)
	if err != nil {
		return "", false
	}
	return strconv.FormatFloat(v, 'f', -1, 64), true
}

var compound = regexp.MustCompile(`\d+(?:\.\d+)?[a-z]+`)

// split takes a word apart where names and numbers are joined: 6/6,
// 512Mi->256Mi, 3h40m.
func split(w string) []string {
	if durations.MatchString(w) {
		return compound.FindAllString(w, -1)
	}
	return strings.FieldsFunc(w, func(r rune) bool {
		return r == '/' || r == ':' || r == '-' || r == '~' || r == '@' || r == ',' || r == '+'
	})
}

func hasDigit(w string) bool { return strings.ContainsFunc(w, unicode.IsDigit) }

// identifier says whether a word without digits is written as no word of a
// sentence is: with joints, in mixed case, or all in capitals.
func identifier(w string) bool {
	low := strings.ToLower(w)
	if acronyms[w] || joined[low] {
		return false
	}
	if strings.ContainsAny(w, "_/:@.") {
		return true
	}
	if strings.Contains(w, "-") {
		first, rest, _ := strings.Cut(low, "-")
		return !prefixes[first] && !suffixes[rest]
	}
	w = strings.TrimSuffix(w, "'s")
	if acronyms[w] || acronyms[strings.TrimSuffix(w, "s")] {
		return false
	}
	upper := 0
	for i, r := range w {
		if unicode.IsUpper(r) && i > 0 {
			upper++
		}
	}
	return upper > 0
}

// quotations are what stands between quotation marks or back-quotes.
func quotations(s string) []string {
	var out []string
	for _, m := range quoted.FindAllStringSubmatch(s, -1) {
		for _, g := range m[1:] {
			if strings.TrimSpace(g) != "" {
				out = append(out, g)
			}
		}
	}
	return out
}

var quoted = regexp.MustCompile("\"([^\"]+)\"|`([^`]+)`|“([^”]+)”")

// acts finds what acts on a reader or on a reader's surface.
func acts(claim string) []Problem {
	var out []Problem
	for _, a := range acting {
		if m := a.re.FindString(claim); m != "" {
			out = append(out, Problem{a.fault, m})
		}
	}
	if i := strings.IndexFunc(claim, invisible); i >= 0 {
		out = append(out, Problem{Markup, strconv.QuoteToASCII(claim[i:min(len(claim), i+4)])})
	}
	return out
}

// invisible are control characters and marks that change how text is read.
func invisible(r rune) bool {
	return r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar
}

var acting = []struct {
	fault Fault
	re    *regexp.Regexp
}{
	{Command, regexp.MustCompile(`(?i)\b(?:kubectl|helm|curl|wget|bash|sudo|ssh|nc|python3?|perl|powershell|docker|crictl|ctr|argocd|flux|terraform|aws|gcloud|az|psql|mysql|redis-cli|systemctl|chmod|eval|exec)\s+[-\w/$.'"|]|\brm\s+-|\$\(|\$\{|&&|\|\||[|;]\s*(?:sh|bash|rm|curl|sudo)\b|/bin/(?:ba)?sh`)},
	{Link, regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]{1,20}://|\bwww\.|\b(?:javascript|data|mailto|file|tel|vbscript):\S|\b[a-z0-9-]+\.(?:com|net|org|io|dev|ru|cn|xyz|top|info|biz|co|app|example|zip|click|link|site|online)\b`)},
	{Mention, regexp.MustCompile(`(?i)<[!@#][^>]*>?|(?:^|[\s(\[{"'*_~,;:])@[a-z][\w.-]*|@(?:here|channel|everyone|all)\b`)},
	{Markup, regexp.MustCompile(`(?i)</?[a-z!][^>]*>?|!?\[[^\]]*\]\(|&(?:#\d+|#x[0-9a-f]+|lt|gt|quot|amp);|\x60{3}|^\s{0,3}#{1,6}\s`)},
}

func set(words string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		out[w] = true
	}
	return out
}

var (
	// acronyms are the field's own, which say nothing about a cluster.
	acronyms = set("CPU DNS TLS SLO SLA API HTTP HTTPS TCP UDP IP OOM PVC PV HPA VPA PDB TTL GC IO I/O QPS RPS SQL JSON YAML UTC ID OS VM AZ LB CA RBAC JVM GPU RAM SSD NFS CNI CSI CRD CI CD AND OR NOT P1 P2 P3 P4 OK NO GET POST PUT")
	joined   = set("and/or i/o n/a read/write e.g i.e etc yes/no on/off a/b")
	// prefixes and suffixes of ordinary words with a hyphen.
	prefixes = set("non re pre post co sub un anti multi self well out read roll so short long high low up in on by over under back fall fail start shut set time ever all cross full half first last one two newly single memory cpu disk out-of server client user error rate load still near run end")
	suffixes = set("only back off out up in over down based related like level side wide time term running lived bound loop old new safe aware of-memory to-date to-end ready")
	// amounts are numbers that are written out.
	amounts = map[string]string{
		"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
		"twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "hundreds": "100", "thousand": "1000", "thousands": "1000", "million": "1000000", "millions": "1000000", "dozen": "12", "dozens": "12",
	}
	kindNouns = set("pod pods service services node nodes deployment deployments statefulset statefulsets daemonset daemonsets replicaset replicasets job jobs cronjob namespace namespaces cluster container containers database databases host hosts volume volumes claim queue topic cache table bucket certificate secret configmap ingress team user image registry workload process endpoint backend upstream dependency application app")
	// plainWords may stand beside a kind without being its name.
	plainWords = set(`a an the this that these those its their his her our your my some any no all each every both either neither other others another same such more most many much few less least several
		new old first last next previous earlier later latest current present recent whole entire own single only also too very just still now then here there again already not never always often
		is are was were be been being has have had do does did can cannot could may might must shall should will would
		in on at by of for from to into onto with without within under over above below between among after before since until during while when where which who whose what why how if unless because so as than that and or but nor yet
		it they them he she we you i one ones none
		bad good slow fast high low full empty large small big main critical healthy unhealthy ready unready broken faulty available unavailable affected related owner own likely unlikely possible probable different similar common several
		caused causes cause due
		kubernetes worker control plane memory cpu disk network storage error errors log logs event events restart restarts rollout rollouts release releases version versions change changes configuration config limit limits request requests probe probes traffic load latency
		init sidecar main target source port ports name names selector affinity spread revision cron per via out up down off of's limit's`)
	participles = set("failing running crashing restarting pending waiting missing starting terminating using serving returning showing reporting answering refusing throwing exiting hanging looping scaling exceeding reaching growing leaking filling burning timing responding struggling causing including following remaining rolling being having going getting losing calling lacking lagging")
	// verbs may follow a kind.
	verbs = set(`is are was were has have had do does did can cannot could may might must will would fail fails start starts stop stops run runs crash crashes restart restarts hang hangs exit exits show shows report reports answer answers refuse refuses need needs go goes get gets keep keeps lose loses use uses time times cause causes serve serves read reads write writes send sends return returns come comes become becomes look looks stay stays wait waits end ends die dies fit fits kill kills`)
)
