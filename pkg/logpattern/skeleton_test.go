package logpattern

import "testing"

func TestASkeletonIsOfTheStatementAndNotOfItsValues(t *testing.T) {
	var s Skeletons
	for name, tc := range map[string]struct {
		a, b string
		same bool
	}{
		"other values":            {`level=info msg="served /items/7 in 12ms"`, `level=info msg="served /items/1234 in 3ms"`, true},
		"another header":          {"2026-03-01T10:00:00Z INFO pool: 3 idle", "2026-03-02T11:22:33Z INFO pool: 14 idle", true},
		"another word":            {"lease acquired by 7", "lease lost by 7", false},
		"nothing but a value":     {"17", "18", true},
		"an empty line and a one": {"", "x", false},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := s.Of(tc.a), s.Of(tc.b)
			if (a == b) != tc.same {
				t.Errorf("Of(%q) = %x, Of(%q) = %x; same: want %v", tc.a, a, tc.b, b, tc.same)
			}
			if again := s.Of(tc.a); again != a {
				t.Errorf("Of(%q) is %x, then %x", tc.a, a, again)
			}
		})
	}
}
