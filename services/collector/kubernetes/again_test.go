package kubernetes

import (
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
