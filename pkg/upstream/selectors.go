package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// Matcher is one matcher of a selector: name op "value".
type Matcher struct {
	Name  string
	Op    string // =, !=, =~ or !~
	Value string
}

// String writes the matcher as PromQL, LogQL and Alertmanager read it.
func (m Matcher) String() string {
	name := m.Name
	if !plainName.MatchString(name) {
		name = strconv.Quote(name)
	}
	return name + m.Op + strconv.Quote(m.Value)
}

// Matches says whether a label with the value is selected; a label that is
// missing has the value "".
func (m Matcher) Matches(value string) bool {
	switch m.Op {
	case "=":
		return value == m.Value
	case "!=":
		return value != m.Value
	}
	re, err := regexp.Compile("^(?s:" + m.Value + ")$")
	return err == nil && re.MatchString(value) == (m.Op == "=~")
}

var plainName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// ParseMatchers reads a list of matchers as it stands between the braces of a
// selector: cluster="eu-1", env=~"prod|staging", "service.name"!="x".
func ParseMatchers(s string) ([]Matcher, error) {
	var out []Matcher
	for rest := strings.TrimSpace(s); rest != ""; {
		m, after, err := matcher(rest)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
		if after == "" {
			break
		}
		if after[0] != ',' {
			return nil, fmt.Errorf("no comma after %s", m)
		}
		rest = strings.TrimSpace(after[1:])
	}
	return out, nil
}

// matcher reads the matcher that s begins with.
func matcher(s string) (m Matcher, rest string, err error) {
	if s[0] == '"' {
		if m.Name, rest, err = literal(s); err != nil {
			return m, "", err
		}
	} else {
		n := 0
		for n < len(s) && isName(s[n]) && s[n] != ':' {
			n++
		}
		m.Name, rest = s[:n], s[n:]
		if !plainName.MatchString(m.Name) {
			return m, "", fmt.Errorf("no label name at %.20q", s)
		}
	}
	rest = strings.TrimSpace(rest)
	for _, op := range []string{"=~", "!~", "!=", "="} {
		if strings.HasPrefix(rest, op) {
			m.Op, rest = op, strings.TrimSpace(rest[len(op):])
			break
		}
	}
	if m.Op == "" {
		return m, "", fmt.Errorf("no =, !=, =~ or !~ after %s", m.Name)
	}
	if m.Value, rest, err = literal(rest); err != nil {
		return m, "", fmt.Errorf("value of %s: %w", m.Name, err)
	}
	if strings.HasSuffix(m.Op, "~") {
		if _, err := regexp.Compile(m.Value); err != nil {
			return m, "", fmt.Errorf("value of %s: %w", m.Name, err)
		}
	}
	return m, strings.TrimSpace(rest), nil
}

// literal reads the string literal that s begins with.
func literal(s string) (value, rest string, err error) {
	q, err := strconv.QuotedPrefix(s)
	if err != nil || s[0] == '\'' {
		return "", "", fmt.Errorf("%.20q is not quoted", s)
	}
	value, err = strconv.Unquote(q)
	return value, s[len(q):], err
}

// Matchers are the matchers of a list that was validated; nil for one that is
// not.
func Matchers(list string) []string {
	ms, err := ParseMatchers(list)
	if err != nil {
		return nil
	}
	var out []string
	for _, m := range ms {
		out = append(out, m.String())
	}
	return out
}

// CheckURL says what is wrong with the base URL of a source.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return errors.New("is not an http or https URL")
	case u.User != nil:
		return errors.New("holds a password")
	}
	return nil
}
