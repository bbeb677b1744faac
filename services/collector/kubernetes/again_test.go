package kubernetes

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/collector"
)

// A ReplicaSet stays as old as it is when its template is rolled out again.
func TestATemplateRolledOutAgainIsNotAsOldAsItsReplicaSet(t *testing.T) {
	now := time.Now()
	again := func(rs object, edited time.Time) object {
		m := rs["metadata"].(object)
		m["annotations"].(object)["deployment.kubernetes.io/revision-history"] = "2"
		m["managedFields"] = []any{object{"manager": "kube-controller-manager", "operation": "Update", "time": edited.UTC().Format(time.RFC3339)}}
		return rs
	}
	newest := func(r *run) event.Change {
		changes := data[event.Change](r.emissions())
		return changes[len(changes)-1]
	}
	t.Run("while it is watched", func(t *testing.T) {
		s := newAPIServer(t)
		shop(s)
		r := start(t, s, nil)
		r.until("the first closing", closed)
		s.put("replicasets", replicaSet("checkout-aaaa", "checkout", 3, now.Add(-48*time.Hour), "reg/checkout:v411", "512Mi"))
		r.until("the rollback", func(got []collector.Emission) bool { return count(got, event.Rollout) == 2 })
		s.put("replicasets", again(replicaSet("checkout-bbbb", "checkout", 4, now.Add(-10*time.Minute), "reg/checkout:v412", "256Mi"), time.Now()))
		r.until("the same rollout once more", func(got []collector.Emission) bool { return count(got, event.Rollout) == 3 })
		if c := newest(r); c.Revision != "4" || time.Since(c.Time) > time.Minute {
			t.Errorf("revision %s is of %v, want 4 of now", c.Revision, c.Time)
		}
	})
	t.Run("at the first start", func(t *testing.T) {
		s := newAPIServer(t)
		s.put("deployments", deployment("carts", 1, 1, 3, now.Add(-50*time.Minute)))
		s.put("replicasets", again(replicaSet("carts-aaaa", "carts", 3, now.Add(-50*time.Minute), "reg/carts:v1", "512Mi"), now.Add(-8*time.Minute)))
		s.put("replicasets", again(replicaSet("carts-bbbb", "carts", 4, now.Add(-40*time.Minute), "reg/carts:v2", "512Mi"), now.Add(-5*time.Minute)))
		r := start(t, s, nil)
		r.until("the first closing", closed)
		if c := newest(r); c.Revision != "4" || now.Sub(c.Time).Round(time.Minute) != 5*time.Minute {
			t.Errorf("revision %s is of %v ago, want 4 of 5 minutes ago", c.Revision, now.Sub(c.Time))
		}
	})
}

// What a first start makes of templates that were rolled out again. A ReplicaSet is
// edited when it is scaled, too, and the rollout is as old as its last move.
func TestAFirstStartDatesAndComparesTemplatesRolledOutAgain(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) string { return now.Add(-d).UTC().Format(time.RFC3339) }
	rs := func(name string, number int, former string, created, edited time.Duration, image string) object {
		o := replicaSet("carts-"+name, "carts", number, now.Add(-created), image, "512Mi")
		m := o["metadata"].(object)
		if former != "" {
			m["annotations"].(object)["deployment.kubernetes.io/revision-history"] = former
		}
		m["managedFields"] = []any{object{"manager": "kube-controller-manager", "operation": "Update", "time": ago(edited)}}
		return o
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		name        string
		replicaSets []object
		moved       time.Duration
		want        []string // revision, age in minutes, summary
	}{
		{
			"an old template that came back just now is told",
			[]object{
				rs("a", 3, "1", 40*day, 5*time.Minute, "reg/carts:v1"),
				rs("b", 2, "", 2*day, 5*time.Minute, "reg/carts:v2"),
			},
			4 * time.Minute,
			[]string{"3 5m image v2 -> v1, env DB_PASSWORD changed"},
		},
		{
			"one that came back days ago and was scaled just now is not",
			[]object{
				rs("a", 3, "1", 40*day, 5*time.Minute, "reg/carts:v1"),
				rs("b", 2, "", 20*day, 10*day, "reg/carts:v2"),
			},
			10 * day,
			nil,
		},
		{
			"what was rolled back is held against what it took the place of",
			[]object{
				rs("a", 3, "1", 40*day, 5*time.Minute, "reg/carts:v1"),
				rs("b", 2, "", 20*time.Minute, 5*time.Minute, "reg/carts:v2"),
			},
			5 * time.Minute,
			[]string{"2 20m image v1 -> v2, env DB_PASSWORD changed", "3 5m image v2 -> v1, env DB_PASSWORD changed"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newAPIServer(t)
			d := deployment("carts", 1, 1, 3, now.Add(-40*day))
			d["status"].(object)["conditions"] = []any{object{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "lastUpdateTime": ago(c.moved)}}
			s.put("deployments", d)
			for _, o := range c.replicaSets {
				s.put("replicasets", o)
			}
			r := start(t, s, nil)
			r.until("the first closing", closed)
			var got []string
			for _, x := range data[event.Change](r.emissions()) {
				got = append(got, fmt.Sprintf("%s %.0fm %s", x.Revision, now.Sub(x.Time).Minutes(), x.Summary))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("told %q, want %q", got, c.want)
			}
		})
	}
}
