package evidence

import (
	"encoding/json"
	"testing"
)

func TestTheTallyCountsPodsByTheirTrouble(t *testing.T) {
	for name, tc := range map[string]struct{ pods, want string }{
		"nothing": {`[]`, "0 pods, 0/0 ready"},
		"a healthy pod": {
			`[{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}],"containerStatuses":[{"restartCount":0,"lastState":{"terminated":{"reason":"Completed","exitCode":0}}}]}}]`,
			"1 pod, 1/1 ready",
		},
		"a pod whose two containers were killed counts once": {
			`[{"status":{"phase":"Running","containerStatuses":[
			{"restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"reason":"OOMKilled","exitCode":137}}},
			{"restartCount":1,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"reason":"OOMKilled","exitCode":137}}}]}},
			{"status":{"phase":"Pending"}},{"status":{"phase":"Failed","reason":"Evicted"}}]`,
			"3 pods, 0/3 ready, 1 CrashLoopBackOff, 1 Evicted, 1 Failed, 1 OOMKilled (exit code 137), 1 Pending, 3 restarts",
		},
		"an exit of its own": {
			`[{"status":{"phase":"Running","containerStatuses":[{"restartCount":1,"lastState":{"terminated":{"reason":"Error","exitCode":3}}}]}}]`,
			"1 pod, 0/1 ready, 1 exit code 3, 1 restart",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var pods []object
			if err := json.Unmarshal([]byte(tc.pods), &pods); err != nil {
				t.Fatal(err)
			}
			if got := tally(pods); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
