package check

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
)

func TestRunsAreCountedInTheZoneOfTheSchedule(t *testing.T) {
	zone := "America/New_York"
	for name, test := range map[string]struct {
		schedule string
		zone     *string
		after    time.Duration
		want     int
	}{
		"an hourly one is due once in an hour":                 {"0 * * * *", nil, 90 * time.Minute, 2},
		"one at eight is not due between six and noon of UTC":  {"0 8 * * *", &zone, 6 * time.Hour, 0},
		"one at six in New York is due at eleven of UTC":       {"0 6 * * *", &zone, 2 * time.Hour, 1},
		"every minute of a year is not counted without an end": {"* * * * *", nil, 9000 * time.Hour, manyRuns},
		"a day that does not exist is never due, and ends":     {"0 0 31 2 *", nil, 9000 * time.Hour, 0},
		"a descriptor is a schedule, too":                      {"@hourly", nil, 90 * time.Minute, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := schedule(&batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: test.schedule, TimeZone: test.zone}})
			if err != nil {
				t.Fatal(err)
			}
			if n, _, _ := dueBetween(s, noon.Add(-test.after), noon.Add(time.Second), manyRuns); n != test.want {
				t.Errorf("due %d times, want %d", n, test.want)
			}
		})
	}
}

func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"*/5 * * * *", "TZ=UTC", "CRON_TZ=Mars/Base 0 0 * * *", "@every 1h", "0 0 31 2 *", "", "TZ=", "TZ= 0 0 * * *"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := schedule(&batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: spec}})
		if err != nil || s == nil {
			return
		}
		if n, first, last := dueBetween(s, noon.Add(-time.Hour), noon, 10); n > 10 || first.After(last) || last.After(noon) {
			t.Errorf("%q was due %d times from %s to %s", spec, n, first, last)
		}
	})
}
