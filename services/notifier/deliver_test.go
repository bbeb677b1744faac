package notifier_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/services/notifier"
)

// It died after it had remembered a revision as sent and before it recorded
// that, and the next one went first when it came back.
func TestARevisionSentBeforeACrashIsRecordedThoughTheNextWasSentMeanwhile(t *testing.T) {
	t.Parallel()
	hook := newReceiver(t)
	w := newWorld(t, webhookConfig(hook.URL))
	kv, err := w.bus.KV(t.Context(), bus.BucketNotifier)
	if err != nil {
		t.Fatal(err)
	}
	thread := func(i int, sent ...notifier.Sent) {
		th := notifier.Thread{Told: notifier.Told{Revision: 2}, Sent: sent}
		b, err := json.Marshal(th)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := kv.Put(t.Context(), "thread."+incident(i).Incident+".hook", b); err != nil {
			t.Fatal(err)
		}
	}
	thread(0, notifier.Sent{Revision: 1, Attempts: 3}, notifier.Sent{Revision: 2, Attempts: 1})
	thread(1, notifier.Sent{Revision: 2, Attempts: 1}) // overtaken: 1 was never sent
	w.start()
	w.publish(incident(1), incident(0), incident(2))
	eventually(t, 10*time.Second, "the records of the revision sent before and of the new incident", w.delivered(2))
	got := read(w, event.ReportDelivered)
	slices.SortFunc(got, func(a, b event.Delivery) int { return a.Attempts - b.Attempts })
	if old := got[1]; old.Incident != incident(0).Incident || old.Revision != 1 || old.Attempts != 3 || old.Channel != "hook" {
		t.Errorf("recorded %+v, want revision 1 of %s after 3 attempts", old, incident(0).Incident)
	}
	if ids := hook.ids(); len(ids) != 1 || ids[0] != "n:"+incident(2).Incident+":1:hook" {
		t.Errorf("sent %q, want the new incident alone", ids)
	}
}
