package evidence

import (
	"strings"
	"testing"

	"github.com/oncall-copilot/oncall/pkg/redact"
)

func TestASecretOverSeveralLinesIsMaskedInAll(t *testing.T) {
	for name, tc := range map[string]struct {
		lines  []string
		secret string
		keeps  string
	}{
		"a key in PEM": {
			[]string{"loading", "-----BEGIN RSA PRIVATE KEY-----", "miievqibadanbgkqhkig9w0baqefaascbkcwggsjageaaoibaqc7vjtut9us8ckj", "xyzq==", "-----END RSA PRIVATE KEY-----", "loaded"},
			"xyzq", "loaded",
		},
		"a key that a runtime writes line by line": {
			[]string{"2026-11-24T02:51:03.000000001Z stdout F -----BEGIN PRIVATE KEY-----", "2026-11-24T02:51:03.000000002Z stdout F abcdefabcdef", "2026-11-24T02:51:03.000000003Z stdout F -----END PRIVATE KEY-----"},
			"abcdefabcdef", "",
		},
		"a line that a runtime has cut within the password": {
			[]string{"2026-11-24T02:51:03.000000001Z stdout P level=info password=hunter2", "2026-11-24T02:51:03.000000002Z stdout F trustno1 host=db", "2026-11-24T02:51:03.000000003Z stdout F next"},
			"trustno1", "host=db",
		},
		"a line that a runtime has cut within the key": {
			[]string{"2026-11-24T02:51:03.000000001Z stdout P level=info pass", "2026-11-24T02:51:03.000000002Z stdout F word=hunter2trustno1 host=db"},
			"trustno1", "host=db",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(Masked(tc.lines, redact.New(redact.Options{})), "\n")
			if strings.Contains(got, tc.secret) || !strings.Contains(got, tc.keeps) {
				t.Errorf("%q became %q; want %q gone and %q kept", tc.lines, got, tc.secret, tc.keeps)
			}
		})
	}
}
