package kube

import (
	"strings"
	"testing"
)

// FuzzFailing: an answer of /readyz always names something, each in one word.
func FuzzFailing(f *testing.F) {
	f.Add("[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n")
	f.Add("[-]")
	f.Add("[-]\r\n[-] x")
	f.Add("internal server error")
	f.Fuzz(func(t *testing.T, body string) {
		checks := failing(body)
		if len(checks) == 0 {
			t.Errorf("%q names nothing", body)
		}
		for _, c := range checks {
			if c == "" || strings.ContainsAny(c, "\n\r") {
				t.Errorf("%q names %q", body, c)
			}
		}
	})
}
