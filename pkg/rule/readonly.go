package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ReadOnly says whether a command only reads: nil, or why it may not be
// printed as a check. It knows what reads and refuses the rest, so that a verb
// nobody thought of is refused too. Shell syntax beyond quoted words is
// refused, Secrets are.
func ReadOnly(command string) error {
	words, err := Words(command)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return errors.New("is empty")
	}
	switch words[0] {
	case "kubectl":
		return kubectlReads(words[1:])
	case "promtool":
		return startsWith(words, "query instant", "query range", "query series", "query labels")
	case "logcli":
		return startsWith(words, "query", "instant-query", "series", "labels")
	case "amtool":
		return startsWith(words, "alert query", "silence query", "config show", "config routes")
	case "oncall":
		return startsWith(words, "why", "incidents", "health", "triage", "owner", "doctor")
	}
	return fmt.Errorf("runs %s; only kubectl, promtool, logcli, amtool and oncall are known to read", words[0])
}

func startsWith(words []string, allowed ...string) error {
	for _, a := range allowed {
		want := strings.Fields(a)
		if len(words) > len(want) && slices.Equal(words[1:1+len(want)], want) {
			return nil
		}
	}
	return fmt.Errorf("is none of %s %s", words[0], strings.Join(allowed, ", "))
}

// kubectlFlags are the flags before and behind the verb that take a word.
var kubectlFlags = []string{"--context", "-n", "--namespace", "-l", "--selector", "-o", "--output", "--field-selector", "--sort-by", "-c", "--container", "--tail", "--since", "--timeout", "--types", "--for"}

// kubectlReading are the verbs that only read.
var kubectlReading = []string{"get", "describe", "logs", "top", "events", "explain", "api-resources", "version", "cluster-info"}

// rawPaths are what `kubectl get --raw` may read.
var rawPaths = []string{"/readyz", "/livez", "/healthz", "/version", "/metrics"}

func kubectlReads(words []string) error {
	var args []string
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "--raw" || strings.HasPrefix(w, "--raw="):
			path := strings.TrimPrefix(w, "--raw=")
			if w == "--raw" && i+1 < len(words) {
				i++
				path = words[i]
			}
			path, _, _ = strings.Cut(path, "?")
			if !slices.Contains(rawPaths, path) {
				return fmt.Errorf("reads the raw path %s; it may be one of %s", path, strings.Join(rawPaths, ", "))
			}
		case slices.Contains(kubectlFlags, w):
			i++
		case strings.HasPrefix(w, "-"):
		default:
			args = append(args, w)
		}
	}
	if len(args) == 0 {
		return errors.New("has no verb")
	}
	switch verb := args[0]; {
	case verb == "rollout":
		if len(args) < 2 || args[1] != "history" && args[1] != "status" {
			return errors.New("changes something: of rollout only history and status read")
		}
	case verb == "auth":
		if len(args) < 2 || args[1] != "can-i" && args[1] != "whoami" {
			return errors.New("is none of auth can-i and whoami")
		}
	case !slices.Contains(kubectlReading, verb):
		return fmt.Errorf("changes something: %s is none of %s, rollout history, rollout status", verb, strings.Join(kubectlReading, ", "))
	case len(args) > 1 && verb != "logs" && verb != "explain" && namesSecrets(args[1]):
		return errors.New("reads Secrets, which no check does")
	}
	return nil
}

func namesSecrets(resource string) bool {
	for r := range strings.SplitSeq(resource, ",") {
		r, _, _ = strings.Cut(strings.ToLower(r), "/")
		if r, _, _ = strings.Cut(r, "."); r == "secret" || r == "secrets" {
			return true
		}
	}
	return false
}

// Words splits a command as a POSIX shell does whose only syntax is quoting.
// Anything else that a shell would act on is an error: operators, expansion,
// redirection, comments, line breaks. $PROMETHEUS stands for the address of
// the reader's own Prometheus.
func Words(command string) ([]string, error) {
	var words []string
	var b strings.Builder
	in := false
	flush := func() {
		if in {
			words = append(words, b.String())
		}
		b.Reset()
		in = false
	}
	for i := 0; i < len(command); i++ {
		switch c := command[i]; {
		case c == ' ':
			flush()
		case c == '\'' || c == '"':
			end := strings.IndexByte(command[i+1:], c)
			if end < 0 {
				return nil, errors.New("has an open quotation")
			}
			part := command[i+1 : i+1+end]
			if c == '"' && strings.ContainsAny(part, "$`\\") {
				return nil, errors.New(`expands something within "…"; write '…'`)
			}
			if strings.ContainsFunc(part, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return nil, errors.New("holds control characters")
			}
			b.WriteString(part)
			in = true
			i += end + 1
		case c == '\\' && strings.HasPrefix(command[i:], `\'`):
			b.WriteByte('\'')
			in = true
			i++
		case c == '$' && strings.HasPrefix(command[i:], "$PROMETHEUS") && (len(command) == i+11 || command[i+11] == ' '):
			b.WriteString("$PROMETHEUS")
			in = true
			i += 10
		case strings.IndexByte(";&|<>$`()\\*[]~#!{}", c) >= 0, c < ' ', c == 0x7f:
			return nil, fmt.Errorf("holds %q, which a shell acts on; quote it", c)
		default:
			b.WriteByte(c)
			in = true
		}
	}
	flush()
	return words, nil
}
