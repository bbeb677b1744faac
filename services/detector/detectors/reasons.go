package detectors

import (
	"regexp"
	"strings"

	"github.com/oncall-copilot/oncall/pkg/event"
)

// reason is what a Kubernetes event reason means.
type reason struct {
	meaning  string
	severity event.Severity
	class    event.SignalClass
	// least is how many occurrences within ten minutes it takes: one for what is
	// never normal, more for what a healthy rollout shows now and then.
	least int
	first first
}

// first is what to look at first: the arguments of kubectl, in which {object} is
// the kind and the name of the event's object, {name} the name and {ns} the option
// of its namespace.
type first struct{ why, args string }

var (
	seeObject     = first{"its state, and its other events", "{ns}describe {object}"}
	seePrevious   = first{"what it said before it ended", "{ns}logs {object} --all-containers --previous --tail=50"}
	seeImage      = first{"which image, and what the registry answers", "{ns}describe {object}"}
	seeReferences = first{"what it refers to, and what there is", "{ns}get configmaps,serviceaccounts"}
	seeRefusal    = first{"who refuses its pods: a quota, limits, or the words of an admission", "{ns}describe resourcequotas,limitranges"}
	seeNetwork    = first{"whether the pods of the node's network run", "get pods -n kube-system -o wide"}
	seeRoom       = first{"what the nodes have free, and their taints", "describe nodes"}
	seeClaims     = first{"the claims, their classes and their volumes", "{ns}get persistentvolumeclaims,storageclasses -o wide"}
	seeMetrics    = first{"whether somebody answers for its metric", "get apiservices"}
	seeNode       = first{"its conditions, and what its pods request", "describe node {name}"}
	seeEndpoints  = first{"who answers for the Services", "{ns}get endpointslices -o wide"}
	seeWebhooks   = first{"which webhooks there are, and who answers for them", "get validatingwebhookconfigurations,mutatingwebhookconfigurations -o wide"}
)

// plainName is what a name in a command may be made of: whoever may write events
// writes them.
var plainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// check is the command for the object of an event; nil when there is none, or its
// names are none of Kubernetes'.
func (f first) check(about event.Entity) *event.Check {
	if f.args == "" || !plainName.MatchString(about.Name) || about.Namespace != "" && !plainName.MatchString(about.Namespace) || !plainName.MatchString(strings.ToLower(about.Kind)) {
		return nil
	}
	if f == seePrevious && about.Kind != "Pod" {
		f = seeObject // of a Job, say
	}
	if f == seeNode && about.Kind != "Node" {
		f = seeObject
	}
	ns := ""
	if about.Namespace != "" {
		ns = "-n " + about.Namespace + " "
	}
	object := strings.ToLower(about.Kind) + "/" + about.Name
	return &event.Check{Why: f.why, Command: "kubectl " + strings.NewReplacer("{ns}", ns, "{object}", object, "{name}", about.Name).Replace(f.args)}
}

// overWith says which reason of a node is over when another comes.
var overWith = map[string]string{
	"NodeReady": "NodeNotReady", "NodeHasNoDiskPressure": "NodeHasDiskPressure", "NodeHasSufficientMemory": "NodeHasInsufficientMemory", "NodeHasSufficientPID": "NodeHasInsufficientPID",
}

// held are the reasons that are conditions of a node, and have to hold.
var held = func() map[string]bool {
	out := map[string]bool{}
	for _, r := range overWith {
		out[r] = true
	}
	return out
}()

// reasons is the catalogue of reasons that say something is wrong. A Warning
// that is not in it has to come oftener than it used to.
var reasons = map[string]reason{
	// Pods and containers.
	"OOMKilling":                 {"the kernel killed a process for want of memory", event.Critical, event.ClassCause, 1, seePrevious},
	"OOMKilled":                  {"a container was killed for exceeding its memory limit", event.Critical, event.ClassCause, 1, seePrevious},
	"SystemOOM":                  {"the node itself ran out of memory", event.Critical, event.ClassCause, 1, seeNode},
	"BackOff":                    {"a container keeps failing and is restarted ever more slowly, or its image cannot be pulled", event.Warning, event.ClassCause, 2, seePrevious},
	"CrashLoopBackOff":           {"a container keeps crashing", event.Warning, event.ClassCause, 1, seePrevious},
	"Failed":                     {"a container could not be created or its image not be pulled", event.Warning, event.ClassCause, 1, seeImage},
	"ErrImagePull":               {"an image could not be pulled", event.Warning, event.ClassCause, 1, seeImage},
	"ImagePullBackOff":           {"an image cannot be pulled", event.Warning, event.ClassCause, 1, seeImage},
	"InspectFailed":              {"an image name is invalid or cannot be inspected", event.Warning, event.ClassCause, 1, seeImage},
	"ErrImageNeverPull":          {"an image is not on the node and must not be pulled", event.Warning, event.ClassCause, 1, seeImage},
	"CreateContainerConfigError": {"a container refers to a ConfigMap, Secret or key that is not there", event.Warning, event.ClassCause, 1, seeReferences},
	"CreateContainerError":       {"a container could not be created", event.Warning, event.ClassCause, 1, seeReferences},
	"FailedPostStartHook":        {"a post-start hook failed", event.Warning, event.ClassCause, 1, seeObject},
	"FailedPreStopHook":          {"a pre-stop hook failed", event.Info, event.ClassAmbient, 3, seeObject},
	"Unhealthy":                  {"a liveness, readiness or startup probe fails", event.Warning, event.ClassCause, 3, seeObject},
	"ProbeWarning":               {"a probe answered with a warning", event.Info, event.ClassAmbient, 5, seeObject},
	"FailedKillPod":              {"a pod could not be stopped", event.Warning, event.ClassCause, 1, seeObject},
	"ExceededGracePeriod":        {"a pod did not stop in its grace period", event.Info, event.ClassAmbient, 1, seeObject},
	"Evicted":                    {"a pod was evicted from its node", event.Warning, event.ClassCause, 1, seeObject},
	"Preempted":                  {"a pod had to make room for one of higher priority", event.Warning, event.ClassCause, 1, seeObject},
	"Preempting":                 {"a pod had to make room for a critical one", event.Warning, event.ClassCause, 1, seeObject},
	"TaintManagerEviction":       {"a pod is evicted because of a node taint", event.Warning, event.ClassCause, 1, seeObject},
	"DeadlineExceeded":           {"a job or rollout took longer than it may", event.Warning, event.ClassCause, 1, seeObject},
	"BackoffLimitExceeded":       {"a job failed as often as it may", event.Warning, event.ClassCause, 1, seeObject},
	"ProgressDeadlineExceeded":   {"a rollout makes no progress", event.Warning, event.ClassCause, 1, seeObject},
	"FailedCreate":               {"a controller could not create pods: quota, admission or a missing account", event.Warning, event.ClassCause, 1, seeRefusal},
	"FailedDaemonPod":            {"a daemon pod failed and is recreated", event.Warning, event.ClassCause, 1, seeObject},
	"FailedCreatePodSandBox":     {"the network or runtime could not set up a pod", event.Warning, event.ClassCause, 1, seeNetwork},
	"FailedPodSandBoxStatus":     {"the runtime cannot tell the state of a pod", event.Warning, event.ClassCause, 2, seeObject},
	"SandboxChanged":             {"a pod's sandbox died and is made again", event.Info, event.ClassAmbient, 2, seeObject},
	"FailedSync":                 {"the kubelet could not bring a pod to its wanted state", event.Info, event.ClassAmbient, 3, seeObject},
	"FailedValidation":           {"a pod's specification is invalid", event.Warning, event.ClassCause, 1, seeObject},
	"HostPortConflict":           {"a host port is taken", event.Warning, event.ClassCause, 1, seeObject},
	"NetworkNotReady":            {"the node's network is not ready", event.Warning, event.ClassCause, 1, seeNetwork},
	"DNSConfigForming":           {"a pod's DNS search list was cut", event.Info, event.ClassAmbient, 20, seeObject},
	// Scheduling.
	"FailedScheduling":             {"no node fits a pod", event.Warning, event.ClassCause, 2, seeRoom},
	"NotTriggerScaleUp":            {"the autoscaler found no node group that would fit a pod", event.Warning, event.ClassCause, 2, seeRoom},
	"FailedBinding":                {"a claim has no matching volume or class", event.Warning, event.ClassCause, 3, seeClaims},
	"FailedToScaleUpGroup":         {"the cloud did not give more nodes", event.Warning, event.ClassCause, 1, seeRoom},
	"ScaleUpTimedOut":              {"new nodes did not come in time", event.Warning, event.ClassCause, 1, seeRoom},
	"FailedGetResourceMetric":      {"an autoscaler cannot read its metric", event.Warning, event.ClassCause, 5, seeMetrics},
	"FailedComputeMetricsReplicas": {"an autoscaler cannot compute its replicas", event.Warning, event.ClassCause, 5, seeMetrics},
	"FailedRescale":                {"an autoscaler could not change the replicas", event.Warning, event.ClassCause, 1, seeObject},
	// Storage.
	"FailedMount":             {"a volume could not be mounted", event.Warning, event.ClassCause, 2, seeObject},
	"FailedAttachVolume":      {"a volume could not be attached", event.Warning, event.ClassCause, 1, seeObject},
	"FailedMapVolume":         {"a block volume could not be mapped", event.Warning, event.ClassCause, 1, seeObject},
	"FailedUnmount":           {"a volume could not be unmounted", event.Info, event.ClassAmbient, 3, seeObject},
	"ProvisioningFailed":      {"a volume could not be provisioned", event.Warning, event.ClassCause, 1, seeClaims},
	"VolumeResizeFailed":      {"a volume could not be grown", event.Warning, event.ClassCause, 1, seeClaims},
	"FileSystemResizeFailed":  {"a file system could not be grown", event.Warning, event.ClassCause, 1, seeClaims},
	"AlreadyMountedVolume":    {"a volume is still mounted elsewhere", event.Warning, event.ClassCause, 1, seeObject},
	"VolumeConditionAbnormal": {"a volume reports an abnormal condition", event.Warning, event.ClassCause, 1, seeObject},
	// Nodes.
	"NodeNotReady":              {"a node stopped reporting or is not ready", event.Critical, event.ClassCause, 1, seeNode},
	"NodeNotSchedulable":        {"a node was cordoned", event.Info, event.ClassAmbient, 1, seeNode},
	"NodeHasDiskPressure":       {"a node runs out of disk", event.Warning, event.ClassCause, 1, seeNode},
	"NodeHasInsufficientMemory": {"a node runs out of memory", event.Warning, event.ClassCause, 1, seeNode},
	"NodeHasInsufficientPID":    {"a node runs out of process ids", event.Warning, event.ClassCause, 1, seeNode},
	"EvictionThresholdMet":      {"a node begins to evict pods for want of a resource", event.Warning, event.ClassCause, 1, seeNode},
	"FreeDiskSpaceFailed":       {"the kubelet could not free disk space", event.Warning, event.ClassCause, 1, seeNode},
	"ImageGCFailed":             {"unused images could not be removed", event.Warning, event.ClassCause, 2, seeNode},
	"ContainerGCFailed":         {"dead containers could not be removed", event.Warning, event.ClassCause, 2, seeNode},
	"KubeletIsDown":             {"a kubelet is down", event.Critical, event.ClassCause, 1, seeNode},
	"ContainerRuntimeIsDown":    {"a container runtime is down", event.Critical, event.ClassCause, 1, seeNode},
	"Rebooted":                  {"a node was rebooted", event.Warning, event.ClassCause, 1, seeNode},
	"KernelDeadlock":            {"a node's kernel is stuck", event.Critical, event.ClassCause, 1, seeNode},
	"ReadonlyFilesystem":        {"a node's file system became read-only", event.Critical, event.ClassCause, 1, seeNode},
	"TaskHung":                  {"a task on a node hangs in the kernel", event.Warning, event.ClassCause, 1, seeNode},
	"CorruptDockerOverlay2":     {"a node's image store is damaged", event.Warning, event.ClassCause, 1, seeNode},
	"InvalidDiskCapacity":       {"a node reports a disk of no size", event.Info, event.ClassAmbient, 5, seeNode},
	"CIDRNotAvailable":          {"no addresses are left for a node's pods", event.Warning, event.ClassCause, 1, seeNode},
	// Networking and the rest.
	"SyncLoadBalancerFailed":       {"a load balancer could not be set up", event.Warning, event.ClassCause, 2, seeObject},
	"FailedToUpdateEndpointSlices": {"a Service's endpoints could not be updated", event.Warning, event.ClassCause, 3, seeEndpoints},
	"FailedToUpdateEndpoint":       {"a Service's endpoints could not be updated", event.Warning, event.ClassCause, 3, seeEndpoints},
	"IPAddressNotAvailable":        {"no address is left for a Service", event.Warning, event.ClassCause, 1, seeEndpoints},
	"IssueFailed":                  {"a certificate could not be issued", event.Warning, event.ClassCause, 1, seeObject},
	"ReconcileError":               {"an operator could not reconcile its object", event.Warning, event.ClassCause, 3, seeObject},
	"ReconciliationFailed":         {"an operator could not reconcile its object", event.Warning, event.ClassCause, 3, seeObject},
	"AdmissionWebhookFailed":       {"an admission webhook failed", event.Warning, event.ClassCause, 1, seeWebhooks},
}

// lookup is what an event means, and whether it is wrong by itself.
func lookup(e event.KubeEvent) (reason, bool) {
	r, ok := reasons[e.Reason]
	if !ok {
		return reason{severity: event.Info, class: event.ClassAmbient}, false
	}
	// One reason, several meanings: the kubelet's words tell them apart.
	msg := strings.ToLower(e.Message)
	switch e.Reason {
	case "Failed", "BackOff":
		switch {
		case strings.Contains(msg, "pull"), strings.Contains(msg, "image"):
			r.meaning, r.first = "an image cannot be pulled", seeImage
		case strings.Contains(msg, "restarting failed container"):
			r.meaning = "a container keeps failing and is restarted ever more slowly"
		}
	case "Unhealthy":
		for _, probe := range []string{"readiness", "liveness", "startup"} {
			if strings.Contains(msg, probe) {
				r.meaning = "the " + probe + " probe fails"
			}
		}
	}
	return r, true
}
