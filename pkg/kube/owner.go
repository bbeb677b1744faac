package kube

import (
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// Ref names an object of a namespace, or of the cluster.
type Ref struct {
	Namespace string
	Kind      string
	Name      string
}

// Entity is the object as an entity.
func (r Ref) Entity() event.Entity {
	return event.Entity{Namespace: r.Namespace, Kind: r.Kind, Name: r.Name}
}

// Controller is the object that controls the one with these owners, or false.
// An owner that is not marked as controller counts only when it is alone.
func Controller(namespace string, owners []metav1.OwnerReference) (Ref, bool) {
	for i := range owners {
		if owners[i].Controller != nil && *owners[i].Controller {
			return Ref{namespace, owners[i].Kind, owners[i].Name}, true
		}
	}
	if len(owners) == 1 && owners[0].Kind != "" {
		return Ref{namespace, owners[0].Kind, owners[0].Name}, true
	}
	return Ref{}, false
}

// maxOwners bounds an owner chain; references in a circle end there.
const maxOwners = 8

// Root follows controllers from an object up to what nobody controls. A pod of
// a node's own static manifests ends at the pod, not at the Node. controller
// gives the controller of an object that is known.
func Root(r Ref, controller func(Ref) (Ref, bool)) event.Entity {
	for range maxOwners {
		up, ok := controller(r)
		if !ok || up.Kind == "Node" {
			break
		}
		r = up
	}
	return r.Entity()
}

// Labels by which a ReplicaSet's pods carry the hash of its template.
const (
	labelTemplateHash        = "pod-template-hash"
	labelRolloutTemplateHash = "rollouts-pod-template-hash" // Argo Rollouts
)

// ReplicaSetOwner guesses the owner of a ReplicaSet that may not be read from
// the labels of its pod: its name is the owner's with the hash of the template
// behind it.
func ReplicaSetOwner(rs Ref, podLabels map[string]string) (Ref, bool) {
	for _, by := range [][2]string{{labelRolloutTemplateHash, "Rollout"}, {labelTemplateHash, "Deployment"}} {
		if hash := podLabels[by[0]]; hash != "" {
			if name, ok := strings.CutSuffix(rs.Name, "-"+hash); ok && name != "" {
				return Ref{rs.Namespace, by[1], name}, true
			}
		}
	}
	return Ref{}, false
}
