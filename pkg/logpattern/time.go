package logpattern

import (
	"strings"
	"time"
)

// Time reads the time that a line states of itself: a date with a year, and a
// clock, among its first bytes. A time without a zone is taken as UTC. It gives
// false for a line that states none, or less, as syslog and klog do.
func Time(line string) (time.Time, bool) {
	head := line[:min(len(line), 200)]
	for i := 0; i+19 <= len(head); i++ {
		if c := head[i]; c < '0' || c > '9' || i > 0 && head[i-1] >= '0' && head[i-1] <= '9' {
			continue
		}
		if t, ok := dateTime(head[i:]); ok {
			return t, true
		}
		if t, ok := accessTime(head[i:]); ok {
			return t, true
		}
	}
	return time.Time{}, false
}

// dateTime reads 2026-03-12T10:11:12.123Z, with a space for the T, slashes for
// the dashes, a comma before the fraction, and with or without a zone.
func dateTime(s string) (time.Time, bool) {
	if !date(s[:10]) || !digits(s[:4]) || s[10] != 'T' && s[10] != ' ' && s[10] != 't' || !clock(s[11:19]) {
		return time.Time{}, false
	}
	n := func(i, j int) (v int) {
		for ; i < j; i++ {
			v = 10*v + int(s[i]-'0')
		}
		return v
	}
	nanos, rest := 0, s[19:]
	if rest != "" && (rest[0] == '.' || rest[0] == ',') {
		unit := 100_000_000
		for rest = rest[1:]; rest != "" && rest[0] >= '0' && rest[0] <= '9'; rest = rest[1:] {
			nanos += unit * int(rest[0]-'0')
			unit /= 10
		}
	}
	t := time.Date(n(0, 4), time.Month(n(5, 7)), n(8, 10), n(11, 13), n(14, 16), n(17, 19), nanos, time.UTC)
	if int(t.Month()) != n(5, 7) || t.Day() != n(8, 10) || t.Hour() != n(11, 13) {
		return time.Time{}, false // 2026-13-40 is no date
	}
	return t.Add(-zone(strings.TrimPrefix(rest, " "))), true
}

// zone reads +02:00 and +0200; zero for anything else.
func zone(s string) time.Duration {
	if len(s) < 5 || s[0] != '+' && s[0] != '-' {
		return 0
	}
	hour, minute := s[1:3], s[3:5]
	if s[3] == ':' && len(s) >= 6 {
		minute = s[4:6]
	}
	if !digits(hour) || !digits(minute) {
		return 0
	}
	d := time.Duration(int(hour[0]-'0')*10+int(hour[1]-'0'))*time.Hour + time.Duration(int(minute[0]-'0')*10+int(minute[1]-'0'))*time.Minute
	if s[0] == '-' {
		return -d
	}
	return d
}

// accessTime reads 12/Mar/2026:10:11:12 +0200, as web servers write it.
func accessTime(s string) (time.Time, bool) {
	const layout = "02/Jan/2006:15:04:05"
	if len(s) < len(layout) || s[2] != '/' || s[6] != '/' || s[11] != ':' {
		return time.Time{}, false
	}
	t, err := time.Parse(layout, s[:len(layout)])
	if err != nil {
		return time.Time{}, false
	}
	return t.Add(-zone(strings.TrimPrefix(s[len(layout):], " "))), true
}
