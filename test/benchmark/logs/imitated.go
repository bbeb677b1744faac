package logs

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	_ "embed"
)

//go:embed testdata/imitated1.txt
var imitated1 string

//go:embed testdata/imitated2.txt
var imitated2 string

// Imitation is a system in the style of a real program: a name, the format of its
// headers, and its statements, most frequent first.
type Imitation struct {
	Name, Format string
	// Known says whether the miner's authors looked at what was wrong with it.
	Known      bool
	statements []statement
	pools      map[string][]string
}

// statement is what a place in a program writes, behind a header with a tag.
type statement struct{ tag, text string }

// Imitated are the systems of testdata/imitated1.txt and imitated2.txt.
func Imitated() (systems []*Imitation) {
	for line := range strings.Lines(imitated1 + imitated2) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line == "#" || strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, "== "):
			name, format, _ := strings.Cut(line[3:], " ")
			systems = append(systems, &Imitation{Name: name, Format: format, Known: len(systems)%2 == 0, pools: map[string][]string{}})
		case line[0] == '@':
			kind, values, _ := strings.Cut(line[1:], " ")
			systems[len(systems)-1].pools[kind] = alternatives(values)
		default:
			s := systems[len(systems)-1]
			tag, text, tagged := strings.Cut(line, "~ ")
			if !tagged {
				tag, text = "", line
			}
			s.statements = append(s.statements, statement{tag, text})
		}
	}
	return systems
}

// alternatives are the parts of a text between bars that are in no brackets.
func alternatives(s string) (parts []string) {
	depth, from := 0, 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth = max(0, depth-1)
		case '|':
			if depth == 0 {
				parts = append(parts, s[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, s[from:])
}

// Statements is how many the system has.
func (s *Imitation) Statements() int { return len(s.statements) }

// Lines writes 2,000 lines of the system: statements and values by Zipf's law, in
// bursts.
func (s *Imitation) Lines(seed uint64) (out []Line) {
	m := &mimic{Imitation: s, Rand: rand.New(rand.NewPCG(seed, 77)), at: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)}
	for range 40 {
		m.hosts = append(m.hosts, m.one("web", "db", "node", "cache", "mail", "build")+m.one("", "-", "-"+m.syllables())+fmt.Sprint(m.IntN(30))+m.one("", ".example.org", ".corp.example"))
	}
	for len(out) < 2000 {
		i := m.zipf(len(s.statements))
		for range 1 + m.IntN(3) {
			m.variant = m.variant[:0]
			msg := m.fill(s.statements[i].text)
			out = append(out, Line{Variant: string(m.variant), Raw: m.header(s.statements[i], msg), Content: msg, Event: fmt.Sprint(i)})
		}
	}
	return out[:2000]
}

// mimic writes the lines of one system.
type mimic struct {
	*Imitation
	*rand.Rand
	at      time.Time
	hosts   []string
	variant []byte // which of the parts of the statement were chosen
	inside  int    // how deep in a value, whose parts are no variants
}

// choose notes a choice.
func (m *mimic) choose(k int) int {
	if m.inside == 0 {
		m.variant = append(m.variant, byte('a'+k))
	}
	return k
}

// zipf draws the index of one of n things, of which the first are the most frequent.
func (m *mimic) zipf(n int) int {
	sum := 0.0
	for i := range n {
		sum += 1 / float64(i+1)
	}
	x := m.Float64() * sum
	for i := range n {
		if x -= 1 / float64(i+1); x <= 0 {
			return i
		}
	}
	return n - 1
}

func (m *mimic) one(words ...string) string { return words[m.IntN(len(words))] }

func (m *mimic) syllables() string {
	var b strings.Builder
	for range 2 + m.IntN(2) {
		b.WriteString(m.one("ka", "lo", "mi", "ser", "tan", "vel", "do", "rin", "pas", "gu", "ble", "nor", "shi", "qua", "fer"))
	}
	return b.String()
}

// fill writes a text with values for its kinds.
func (m *mimic) fill(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '$' {
			b.WriteByte(s[i])
			i++
			continue
		}
		switch rest := s[i+1:]; {
		case strings.HasPrefix(rest, "("):
			in, n := enclosed(rest)
			parts := alternatives(in)
			b.WriteString(m.fill(parts[m.choose(m.zipf(len(parts)))]))
			i += 1 + n
		case strings.HasPrefix(rest, "["):
			in, n := enclosed(rest)
			if m.choose(m.IntN(2)) == 0 {
				b.WriteString(m.fill(in))
			}
			i += 1 + n
		case strings.HasPrefix(rest, "+("):
			in, n := enclosed(rest[1:])
			m.inside++
			for k := range 1 + m.zipf(5) {
				if k > 0 {
					b.WriteString(", ")
				}
				b.WriteString(m.fill(in))
			}
			m.inside--
			i += 2 + n
		default:
			kind := m.kind(rest)
			if kind == "" {
				b.WriteByte('$')
				i++
				continue
			}
			b.WriteString(m.value(kind))
			i += 1 + len(kind)
		}
	}
	return b.String()
}

// enclosed is what the brackets hold that a text begins with, and how long both are.
func enclosed(s string) (in string, n int) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(', '[':
			depth++
		case ')', ']':
			if depth--; depth == 0 {
				return s[1:i], i + 1
			}
		}
	}
	panic("not closed: " + s)
}

// kind is the longest name of a kind that a text begins with.
func (m *mimic) kind(s string) string {
	for n := min(len(s), 12); n > 0; n-- {
		if _, ok := m.pools[s[:n]]; ok {
			return s[:n]
		}
		if _, ok := kinds[s[:n]]; ok {
			return s[:n]
		}
	}
	return ""
}

func (m *mimic) value(kind string) string {
	if pool, ok := m.pools[kind]; ok {
		m.inside++
		defer func() { m.inside-- }()
		return m.fill(pool[m.zipf(len(pool))])
	}
	return kinds[kind](m)
}

func decimals(n int) func(*mimic) string {
	return func(m *mimic) string { return fmt.Sprintf("%.*f", n, m.Float64()*300) }
}

// kinds are the kinds of values that every system has. They are set by init, since
// some are made of others.
var kinds map[string]func(*mimic) string

func init() {
	kinds = map[string]func(*mimic) string{
		"n":    func(m *mimic) string { return fmt.Sprint(m.IntN([]int{10, 1000, 70_000, 2_000_000_000}[m.IntN(4)])) },
		"i":    func(m *mimic) string { return fmt.Sprint(m.IntN([]int{5, 10, 100}[m.IntN(3)])) },
		"f":    func(m *mimic) string { return fmt.Sprintf("%.*f", 1+m.IntN(5), m.Float64()*300) },
		"f1":   decimals(1),
		"f2":   decimals(2),
		"f3":   decimals(3),
		"f9":   decimals(9),
		"ip":   func(m *mimic) string { return fmt.Sprintf("10.%d.%d.%d", m.IntN(4), m.IntN(256), 1+m.IntN(254)) },
		"port": func(m *mimic) string { return fmt.Sprint(1024 + m.IntN(60000)) },
		"mac": func(m *mimic) string {
			return fmt.Sprintf("52:54:%02x:%02x:%02x:%02x", m.IntN(256), m.IntN(256), m.IntN(256), m.IntN(256))
		},
		"cmac": func(m *mimic) string {
			return fmt.Sprintf("%04x.%04x.%04x", m.IntN(1<<16), m.IntN(1<<16), m.IntN(1<<16))
		},
		"hex":   func(m *mimic) string { return fmt.Sprintf("%x", 0x1000000+m.Uint64N(1<<40)) },
		"hex1":  func(m *mimic) string { return fmt.Sprintf("%x", m.IntN(1<<(4*(1+m.IntN(4))))) },
		"hex32": func(m *mimic) string { return fmt.Sprintf("%016x%016x", m.Uint64(), m.Uint64()) },
		"HEX":   func(m *mimic) string { return fmt.Sprintf("%08X", m.Uint32()) },
		"uuid": func(m *mimic) string {
			return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", m.Uint32(), m.IntN(1<<16), m.IntN(1<<12), m.IntN(1<<12), m.Uint64N(1<<48))
		},
		"b64": func(m *mimic) string {
			b := make([]byte, 22)
			for i := range b {
				b[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[m.IntN(64)]
			}
			return string(b)
		},
		"date":  func(m *mimic) string { return fmt.Sprintf("2026-%02d-%02d", 1+m.IntN(12), 1+m.IntN(28)) },
		"clock": func(m *mimic) string { return fmt.Sprintf("%02d:%02d:%02d", m.IntN(24), m.IntN(60), m.IntN(60)) },
		"hdate": func(m *mimic) string { return m.at.Format("02/Jan/2006:15:04:05.000") },
		"cday":  func(m *mimic) string { return m.at.AddDate(0, 0, m.IntN(300)).Format("Mon Jan 2 2006") },
		"epoch": func(m *mimic) string { return fmt.Sprint(m.at.Unix()) },
		"kt":    func(m *mimic) string { return fmt.Sprintf("%5d.%06d", m.IntN(99999), m.IntN(1e6)) },
		"dur": func(m *mimic) string {
			return m.one(fmt.Sprintf("%dms", m.IntN(3000)), fmt.Sprintf("%.3fs", m.Float64()*20), fmt.Sprintf("%ds%dms", m.IntN(60), m.IntN(1000)), fmt.Sprintf("%dm%ds", m.IntN(9), m.IntN(60)))
		},
		"dur2": func(m *mimic) string {
			return m.one(fmt.Sprintf("%dms", m.IntN(999)), fmt.Sprintf("%.1fs", m.Float64()*9))
		},
		"bool": func(m *mimic) string { return m.one("true", "false") },
		"Bool": func(m *mimic) string { return m.one("True", "False") },
		"host": func(m *mimic) string { return m.hosts[m.zipf(len(m.hosts))] },
		"word": func(m *mimic) string {
			words := []string{"report", "north", "alpha", "customer", "green", "daily", "backup", "weather", "paper", "river", "index", "small", "market", "late", "spring", "zeta", "music", "planet", "copper", "quiet"}
			return words[m.zipf(len(words))]
		},
		"person": func(m *mimic) string {
			first, last := []string{"Anna", "Peter", "Maria José", "Li", "Olga", "Karl-Heinz", "Tom", "Fatima", "Dr. Eva"}, []string{"Keller", "Smith", "de la Cruz", "Wang", "O'Neill", "van den Berg", "Okafor", "Müller"}
			return first[m.zipf(len(first))] + " " + last[m.zipf(len(last))]
		},
		"email": func(m *mimic) string {
			return m.syllables() + m.one("@example.org", "@mail.example.com", "@shop.example")
		},
		"quoted": func(m *mimic) string {
			return `"` + m.one("", "the ") + m.value("word") + m.one("", ", "+m.value("word"), " of "+m.value("word")) + `"`
		},
		"path": func(m *mimic) string {
			p := m.one("/var/lib/", "/srv/data/", "/home/", "/opt/") + m.value("word")
			for range m.IntN(3) {
				p += "/" + m.syllables()
			}
			return p + m.one("", "", ".log", ".db", fmt.Sprintf("-%d.tmp", m.IntN(100)))
		},
		"url": func(m *mimic) string {
			return m.one("http://", "https://") + m.value("host") + m.one("/", "/"+m.value("word"), "/"+m.value("word")+"/"+m.value("word")+".html", "/"+m.value("word")+"?id="+fmt.Sprint(m.IntN(999)))
		},
	}
}

var (
	isError   = regexp.MustCompile(`(?i)\b(fail|error|exception|refused|panic|fatal|alert|corrupt)`)
	isWarning = regexp.MustCompile(`(?i)\b(warn|retry|timed? ?out|slow|exceed|invalid|unable|cannot|can't|dropped|lost|down)`)
)

// number is one that stays the same with a text: a line of source, a code.
func number(s string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s))
	return int(h.Sum32()%900) + 17
}

// header writes a line with this message as the system does.
func (m *mimic) header(s statement, msg string) string {
	m.at = m.at.Add(time.Duration(m.ExpFloat64() * float64(2*time.Second)))
	at, tag, line, pid := m.at.Format, m.fill(s.tag), number(s.tag+s.text), 800+37*number(s.tag)
	level := "INFO"
	if isError.MatchString(s.text) {
		level = "ERROR"
	} else if isWarning.MatchString(s.text) {
		level = "WARN"
	}
	switch low := strings.ToLower(level); m.Format {
	case "cassandra":
		thread := m.one("CompactionExecutor", "MemtableFlushWriter", "GossipStage", "ScheduledTasks", "Repair-Task") + ":" + fmt.Sprint(m.IntN(20))
		return fmt.Sprintf("%-5s [%s] %s %s:%d - %s", level, m.one(thread, thread, "main", "Service Thread"), at("2006-01-02 15:04:05,000"), tag, line, msg)
	case "rabbit":
		return fmt.Sprintf("%s [%s] <0.%d.0> %s", at("2006-01-02 15:04:05.000000+00:00"), map[string]string{"INFO": "info", "WARN": "warning", "ERROR": "error"}[level], 200+m.IntN(9000), msg)
	case "slurm":
		return fmt.Sprintf("[%s] %s", at("2006-01-02T15:04:05.000"), msg)
	case "logcat2":
		return fmt.Sprintf("%s %5d %5d %c %s: %s", at("01-02 15:04:05.000"), pid, pid+m.IntN(900), m.one("D", "I", "V", level)[0], tag, msg)
	case "desktop":
		if tag == "kernel" {
			return fmt.Sprintf("%s anna-laptop kernel: %s", at(time.Stamp), msg)
		}
		return fmt.Sprintf("%s anna-laptop %s[%d]: %s", at(time.Stamp), tag, pid, msg)
	case "haproxy":
		return fmt.Sprintf("%s lb1 haproxy[%d]: %s", at(time.Stamp), 800+m.IntN(3), msg)
	case "dhcp":
		return fmt.Sprintf("%s gw dhcpd[812]: %s", at(time.Stamp), msg)
	case "netapp":
		return fmt.Sprintf("%s [filer%d: %s]: %s", at("Mon Jan 02 15:04:05 CET"), 1+m.IntN(2), tag, msg)
	case "aspnet":
		return fmt.Sprintf("%s %s: %s[%d] %s", at("2006-01-02 15:04:05"), map[string]string{"INFO": "info", "WARN": "warn", "ERROR": "fail"}[level], tag, line%30, msg)
	case "minecraft":
		return fmt.Sprintf("[%s] [%s/%s]: %s", at("15:04:05"), tag, level, msg)
	case "certmanager":
		return fmt.Sprintf("%c%s       1 controller.go:%d] %s", level[0], at("0102 15:04:05.000000"), line, msg)
	case "ios":
		return fmt.Sprintf("%s rtr-%d %d: %s: %s: %s", at(time.Stamp), m.IntN(6), m.IntN(99999), at("Jan _2 15:04:05.000"), tag, msg)
	case "dovecot":
		return fmt.Sprintf("%s %s: %s", at("Jan 02 15:04:05"), tag, msg)
	case "elastic":
		return fmt.Sprintf("[%s][%-5s][%-25s] [es-data-%d] %s", at("2006-01-02T15:04:05,000"), level, tag, m.IntN(3), msg)
	case "mysql":
		part := "Server"
		if strings.HasPrefix(msg, "InnoDB") {
			part = "InnoDB"
		} else if strings.Contains(msg, "lave") {
			part = "Repl"
		}
		return fmt.Sprintf("%s %d [%s] [MY-%06d] [%s] %s", at("2006-01-02T15:04:05.000000Z"), m.IntN(5000), map[string]string{"INFO": "Note", "WARN": "Warning", "ERROR": "ERROR"}[level], 10000+line, part, msg)
	case "airflow":
		return fmt.Sprintf("[%s] {%s:%d} %s - %s", at("2006-01-02T15:04:05.000+0000"), tag, line, strings.Replace(level, "WARN", "WARNING", 1), msg)
	case "squid":
		return fmt.Sprintf("%s kid%d| %s", at("2006/01/02 15:04:05"), 1+m.IntN(2), msg)
	case "vault":
		return fmt.Sprintf("%s %-7s %s: %s", at("2006-01-02T15:04:05.000Z"), "["+level+"]", tag, msg)
	case "esxi":
		program, part, ok := strings.Cut(tag, "/")
		switch {
		case program == "vmkernel":
			return fmt.Sprintf("%s cpu%d:%d)%s: %s", at("2006-01-02T15:04:05.000Z"), m.IntN(48), 2097000+m.IntN(999), part, msg)
		case ok:
			return fmt.Sprintf("%s %s %s[%d] [Originator@6876 sub=%s%s] %s", at("2006-01-02T15:04:05.000Z"), strings.Replace(low, "warn", "warning", 1), program, pid, part, m.one("", fmt.Sprintf(" opID=%x user=root", m.Uint32())), msg)
		}
		return fmt.Sprintf("%s %s[%d]: %s", at("2006-01-02T15:04:05.000Z"), program, pid, msg)
	case "pbs":
		return fmt.Sprintf("%s;%s;%s", at("01/02/2006 15:04:05"), tag, msg)
	}
	panic("no such format: " + m.Format)
}
