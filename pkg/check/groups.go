package check

import (
	"context"
	"slices"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/kube"
)

// own are the API groups that every cluster has.
var own = []string{
	"apps", "batch", "autoscaling", "policy", "discovery.k8s.io", "networking.k8s.io", "storage.k8s.io", "scheduling.k8s.io", "node.k8s.io", "admissionregistration.k8s.io",
	"apiregistration.k8s.io", "coordination.k8s.io", "rbac.authorization.k8s.io",
}

// foreign is the API group of a listing that a cluster need not have, or "".
func (l listing) foreign() string {
	parts := strings.Split(strings.Trim(l.group, "/"), "/") // apis, group, version
	if parts[0] != "apis" || slices.Contains(own, parts[1]) {
		return ""
	}
	return parts[1]
}

// others are the API groups of a cluster that it need not have, asked for once.
type others struct {
	asked  chan struct{}
	served map[string]string // group → preferred version
	err    error
}

// ask fills in what the server has.
func (g *others) ask(ctx context.Context, client *kube.Client) {
	defer close(g.asked)
	g.served, g.err = client.Groups(ctx)
}

// wait gives a listing the version that its group is served in; ok is false when
// the cluster does not have the group. Where the server did not say, only what has
// a version is worth a try, and err says why.
func (g *others) wait(l listing) (out listing, ok bool, err error) {
	group := l.foreign()
	if group == "" {
		return l, true, nil
	}
	<-g.asked
	version, known := g.served[group]
	versioned := !strings.HasSuffix(l.group, "/"+group)
	switch {
	case g.err != nil && versioned:
		return l, true, nil
	case g.err != nil:
		return l, false, g.err
	case !versioned:
		l.group += "/" + version
	}
	return l, known, nil
}
