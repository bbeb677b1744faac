package backtest

import (
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// place is what trouble is compared by: a workload whatever its kind and
// whichever of its pods, a node, a volume, a namespace. Their side and ours name
// one thing by different objects.
type place struct{ kind, namespace, name string }

// The kinds of places; workloads and all that is called as one have none.
const (
	placeNode      = "node"
	placeVolume    = "volume"
	placeNamespace = "namespace"
	placeCluster   = "cluster"
)

func placeOf(e event.Entity) place {
	switch e.Kind {
	case "":
		return place{}
	case "Node":
		return place{kind: placeNode, name: strings.SplitN(e.Name, ":", 2)[0]}
	case "Namespace":
		return place{kind: placeNamespace, namespace: e.Name}
	case "Cluster":
		return place{kind: placeCluster}
	case "PersistentVolumeClaim":
		return place{placeVolume, e.Namespace, e.Name}
	case "Pod":
		return place{"", e.Namespace, event.WorkloadOfPod(e.Name)}
	case "ReplicaSet":
		return place{"", e.Namespace, event.WorkloadOfPod(e.Name + "-xxxxx")} // its hash stands where a pod's would
	case "Job":
		return place{"", e.Namespace, event.WorkloadOfPod(e.Name + "-xxxxx")} // of a CronJob
	}
	return place{"", e.Namespace, e.Name}
}

func (p place) String() string { return p.kind + "/" + p.namespace + "/" + p.name }

// contains says whether what is said of p is about o too, which is a part of it.
func (p place) contains(o place) bool {
	return p.kind == placeNamespace && p.namespace == o.namespace && o.namespace != ""
}
