package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// ForHygiene are the resources that nothing but hygiene looks at, of which some
// are many and others not for the role view to list. [Read] lists them for whoever
// names them.
var ForHygiene = []string{"roles", "clusterroles", "rolebindings", "clusterrolebindings", "policyreports.wgpolicyk8s.io", "clusterpolicyreports.wgpolicyk8s.io"}

// rbacHygiene are the checks of who may do what. None of them takes anything down.
var rbacHygiene = []Info{
	{
		Name: "binding_hygiene", Needs: []string{"rolebindings"}, Partly: []string{"roles", "clusterroles", "clusterrolebindings", "serviceaccounts"},
		Doc: "RoleBindings and ClusterRoleBindings to a Role, ClusterRole or ServiceAccount that does not exist: whoever makes one of that name has the rights. Only with --hygiene. " +
			"Not: what Kubernetes brings along (named system:, or labelled rbac-defaults), a binding younger than a minute, users and groups, ServiceAccounts of a namespace that was not read.",
		Run: danglingBindings,
	},
	{
		Name: "role_hygiene", Needs: []string{"rolebindings"}, Partly: []string{"roles", "clusterroles", "clusterrolebindings"},
		Doc: "Roles and ClusterRoles that somebody is bound to and that allow every verb or every resource (*). Only with --hygiene. " +
			"Not: cluster-admin, admin, edit and view, what Kubernetes brings along, those that other roles are gathered into, a wildcard within API groups of third parties (what an operator has over its own kinds), and what is bound to nobody else than the cluster's own users and groups.",
		Run: wideRoles,
	},
}

// shipped says whether an object is of those that Kubernetes itself makes.
func shipped(o metav1.Object) bool {
	return o.GetLabels()["kubernetes.io/bootstrapping"] == "rbac-defaults" || strings.HasPrefix(o.GetName(), "system:")
}

// binding is a RoleBinding or a ClusterRoleBinding.
type binding struct {
	event.Entity
	object   metav1.Object
	role     event.Entity
	subjects []rbacv1.Subject
}

// bindings are those that somebody made, by name.
func (c *Cluster) bindings() []binding {
	var out []binding
	add := func(e event.Entity, o metav1.Object, r rbacv1.RoleRef, subjects []rbacv1.Subject) {
		b := binding{Entity: e, object: o, role: event.Entity{Kind: r.Kind, Name: r.Name}, subjects: subjects}
		if r.Kind == "Role" {
			b.role.Namespace = e.Namespace
		}
		if !shipped(o) {
			out = append(out, b)
		}
	}
	for _, b := range c.RoleBindings {
		add(entity("RoleBinding", b), b, b.RoleRef, b.Subjects)
	}
	for _, b := range c.ClusterRoleBindings {
		add(entity("ClusterRoleBinding", b), b, b.RoleRef, b.Subjects)
	}
	return out
}

func danglingBindings(c *Cluster, found func(Problem)) {
	resource := map[string]string{"Role": "roles", "ClusterRole": "clusterroles"}
	for _, b := range c.bindings() {
		if b.object.GetDeletionTimestamp() != nil || c.age(b.object.GetCreationTimestamp()) < starting {
			continue
		}
		var wrong, seen []string
		if r := resource[b.role.Kind]; r != "" && !c.exists(r, b.role.Namespace, b.role.Name) {
			wrong = append(wrong, fmt.Sprintf("its %s %s does not exist", b.role.Kind, b.role.Name))
			seen = append(seen, fmt.Sprintf("roleRef %s %s: there is none of that name", b.role.Kind, b.role.Name))
		}
		var gone []string
		for _, s := range b.subjects {
			if s.Kind != rbacv1.ServiceAccountKind || s.APIGroup != "" || s.Namespace == "" || c.apart(s.Namespace) || c.exists("serviceaccounts", s.Namespace, s.Name) {
				continue
			}
			gone = append(gone, s.Namespace+"/"+s.Name)
			seen = append(seen, fmt.Sprintf("subject ServiceAccount %s/%s: there is none of that name", s.Namespace, s.Name))
		}
		switch {
		case len(gone) == 1:
			wrong = append(wrong, fmt.Sprintf("its ServiceAccount %s does not exist", gone[0]))
		case len(gone) > 1:
			wrong = append(wrong, fmt.Sprintf("its ServiceAccounts %s do not exist", list(gone, 3)))
		}
		if len(wrong) > 0 {
			found(Problem{
				Entity: b.Entity, Root: b.Entity, Urgency: event.Hygiene, Title: strings.Join(wrong, "; "), Seen: seen,
				Next: []event.Check{describe(b.Entity, "its role and its subjects")},
			})
		}
	}
}

// keptRoles are for people, and wide on purpose.
var keptRoles = []string{"cluster-admin", "admin", "edit", "view"}

// everybody are the groups named system: that hold others than the cluster's own.
var everybody = []string{"system:authenticated", "system:unauthenticated", "system:anonymous", "system:serviceaccount"}

func wideRoles(c *Cluster, found func(Problem)) {
	bound := map[event.Entity][]string{}
	for _, b := range c.bindings() {
		for _, s := range b.subjects {
			who := s.Kind + " " + s.Name
			if s.Kind == rbacv1.ServiceAccountKind {
				who = s.Kind + " " + s.Namespace + "/" + s.Name
			} else if strings.HasPrefix(s.Name, "system:") && !slices.ContainsFunc(everybody, func(p string) bool { return strings.HasPrefix(s.Name, p) }) {
				continue
			}
			if !slices.Contains(bound[b.role], who) {
				bound[b.role] = append(bound[b.role], who)
			}
		}
	}
	tell := func(kind string, o metav1.Object, rules []rbacv1.PolicyRule) {
		e := entity(kind, o)
		if len(bound[e]) == 0 || shipped(o) || kind == "ClusterRole" && slices.Contains(keptRoles, o.GetName()) || slices.Contains(systemNamespaces, e.Namespace) {
			return
		}
		var wide, seen []string
		for _, r := range rules {
			if what := wildcard(r); what != "" {
				if !slices.Contains(wide, what) {
					wide = append(wide, what)
				}
				seen = append(seen, fmt.Sprintf("rule apiGroups=%q resources=%q verbs=%q", r.APIGroups, r.Resources, r.Verbs))
			}
		}
		if len(wide) == 0 {
			return
		}
		found(Problem{
			Entity: e, Root: e, Urgency: event.Hygiene, Title: fmt.Sprintf("allows %s; bound to %s", list(wide, 2), list(bound[e], 3)), Seen: seen,
			Next: []event.Check{describe(e, "its rules")},
		})
	}
	for _, r := range c.Roles {
		tell("Role", r, r.Rules)
	}
	for _, r := range c.ClusterRoles {
		if r.AggregationRule == nil {
			tell("ClusterRole", r, r.Rules)
		}
	}
}

// wildcard says what a rule allows by a wildcard; "" where it has none, or only
// over the kinds of third parties.
func wildcard(r rbacv1.PolicyRule) string {
	own := len(r.APIGroups) > 0 && !slices.ContainsFunc(r.APIGroups, func(g string) bool {
		return g == "*" || !strings.Contains(g, ".") || strings.HasSuffix(g, ".k8s.io")
	})
	verbs, resources := slices.Contains(r.Verbs, "*"), slices.Contains(r.Resources, "*")
	switch {
	case own || len(r.ResourceNames) > 0:
		return ""
	case verbs && resources:
		return "everything with everything"
	case verbs && len(r.Resources) > 0:
		return "everything with " + list(sortedSet(r.Resources), 3)
	case resources:
		return strings.Join(sortedSet(r.Verbs), ", ") + " of everything, Secrets too"
	}
	return ""
}

// sortedSet are the words of a list, each once.
func sortedSet(words []string) []string {
	set := map[string]bool{}
	for _, w := range words {
		set[w] = true
	}
	return slices.Sorted(maps.Keys(set))
}
