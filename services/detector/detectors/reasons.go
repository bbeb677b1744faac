package detectors

import (
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
	"OOMKilling":                 {"the kernel killed a process for want of memory", event.Critical, event.ClassCause, 1},
	"OOMKilled":                  {"a container was killed for exceeding its memory limit", event.Critical, event.ClassCause, 1},
	"SystemOOM":                  {"the node itself ran out of memory", event.Critical, event.ClassCause, 1},
	"BackOff":                    {"a container keeps failing and is restarted ever more slowly, or its image cannot be pulled", event.Warning, event.ClassCause, 2},
	"CrashLoopBackOff":           {"a container keeps crashing", event.Warning, event.ClassCause, 1},
	"Failed":                     {"a container could not be created or its image not be pulled", event.Warning, event.ClassCause, 1},
	"ErrImagePull":               {"an image could not be pulled", event.Warning, event.ClassCause, 1},
	"ImagePullBackOff":           {"an image cannot be pulled", event.Warning, event.ClassCause, 1},
	"InspectFailed":              {"an image name is invalid or cannot be inspected", event.Warning, event.ClassCause, 1},
	"ErrImageNeverPull":          {"an image is not on the node and must not be pulled", event.Warning, event.ClassCause, 1},
	"CreateContainerConfigError": {"a container refers to a ConfigMap, Secret or key that is not there", event.Warning, event.ClassCause, 1},
	"CreateContainerError":       {"a container could not be created", event.Warning, event.ClassCause, 1},
	"FailedPostStartHook":        {"a post-start hook failed", event.Warning, event.ClassCause, 1},
	"FailedPreStopHook":          {"a pre-stop hook failed", event.Info, event.ClassAmbient, 3},
	"Unhealthy":                  {"a liveness, readiness or startup probe fails", event.Warning, event.ClassCause, 3},
	"ProbeWarning":               {"a probe answered with a warning", event.Info, event.ClassAmbient, 5},
	"FailedKillPod":              {"a pod could not be stopped", event.Warning, event.ClassCause, 1},
	"ExceededGracePeriod":        {"a pod did not stop in its grace period", event.Info, event.ClassAmbient, 1},
	"Evicted":                    {"a pod was evicted from its node", event.Warning, event.ClassCause, 1},
	"Preempted":                  {"a pod had to make room for one of higher priority", event.Warning, event.ClassCause, 1},
	"Preempting":                 {"a pod had to make room for a critical one", event.Warning, event.ClassCause, 1},
	"TaintManagerEviction":       {"a pod is evicted because of a node taint", event.Warning, event.ClassCause, 1},
	"DeadlineExceeded":           {"a job or rollout took longer than it may", event.Warning, event.ClassCause, 1},
	"BackoffLimitExceeded":       {"a job failed as often as it may", event.Warning, event.ClassCause, 1},
	"ProgressDeadlineExceeded":   {"a rollout makes no progress", event.Warning, event.ClassCause, 1},
	"FailedCreate":               {"a controller could not create pods: quota, admission or a missing account", event.Warning, event.ClassCause, 1},
	"FailedDaemonPod":            {"a daemon pod failed and is recreated", event.Warning, event.ClassCause, 1},
	"FailedCreatePodSandBox":     {"the network or runtime could not set up a pod", event.Warning, event.ClassCause, 1},
	"FailedPodSandBoxStatus":     {"the runtime cannot tell the state of a pod", event.Warning, event.ClassCause, 2},
	"SandboxChanged":             {"a pod's sandbox died and is made again", event.Info, event.ClassAmbient, 2},
	"FailedSync":                 {"the kubelet could not bring a pod to its wanted state", event.Info, event.ClassAmbient, 3},
	"FailedValidation":           {"a pod's specification is invalid", event.Warning, event.ClassCause, 1},
	"HostPortConflict":           {"a host port is taken", event.Warning, event.ClassCause, 1},
	"NetworkNotReady":            {"the node's network is not ready", event.Warning, event.ClassCause, 1},
	"DNSConfigForming":           {"a pod's DNS search list was cut", event.Info, event.ClassAmbient, 20},
	// Scheduling.
	"FailedScheduling":             {"no node fits a pod", event.Warning, event.ClassCause, 2},
	"NotTriggerScaleUp":            {"the autoscaler found no node group that would fit a pod", event.Warning, event.ClassCause, 2},
	"FailedBinding":                {"a claim has no matching volume or class", event.Warning, event.ClassCause, 3},
	"FailedToScaleUpGroup":         {"the cloud did not give more nodes", event.Warning, event.ClassCause, 1},
	"ScaleUpTimedOut":              {"new nodes did not come in time", event.Warning, event.ClassCause, 1},
	"FailedGetResourceMetric":      {"an autoscaler cannot read its metric", event.Warning, event.ClassCause, 5},
	"FailedComputeMetricsReplicas": {"an autoscaler cannot compute its replicas", event.Warning, event.ClassCause, 5},
	"FailedRescale":                {"an autoscaler could not change the replicas", event.Warning, event.ClassCause, 1},
	// Storage.
	"FailedMount":             {"a volume could not be mounted", event.Warning, event.ClassCause, 2},
	"FailedAttachVolume":      {"a volume could not be attached", event.Warning, event.ClassCause, 1},
	"FailedMapVolume":         {"a block volume could not be mapped", event.Warning, event.ClassCause, 1},
	"FailedUnmount":           {"a volume could not be unmounted", event.Info, event.ClassAmbient, 3},
	"ProvisioningFailed":      {"a volume could not be provisioned", event.Warning, event.ClassCause, 1},
	"VolumeResizeFailed":      {"a volume could not be grown", event.Warning, event.ClassCause, 1},
	"FileSystemResizeFailed":  {"a file system could not be grown", event.Warning, event.ClassCause, 1},
	"AlreadyMountedVolume":    {"a volume is still mounted elsewhere", event.Warning, event.ClassCause, 1},
	"VolumeConditionAbnormal": {"a volume reports an abnormal condition", event.Warning, event.ClassCause, 1},
	// Nodes.
	"NodeNotReady":              {"a node stopped reporting or is not ready", event.Critical, event.ClassCause, 1},
	"NodeNotSchedulable":        {"a node was cordoned", event.Info, event.ClassAmbient, 1},
	"NodeHasDiskPressure":       {"a node runs out of disk", event.Warning, event.ClassCause, 1},
	"NodeHasInsufficientMemory": {"a node runs out of memory", event.Warning, event.ClassCause, 1},
	"NodeHasInsufficientPID":    {"a node runs out of process ids", event.Warning, event.ClassCause, 1},
	"EvictionThresholdMet":      {"a node begins to evict pods for want of a resource", event.Warning, event.ClassCause, 1},
	"FreeDiskSpaceFailed":       {"the kubelet could not free disk space", event.Warning, event.ClassCause, 1},
	"ImageGCFailed":             {"unused images could not be removed", event.Warning, event.ClassCause, 2},
	"ContainerGCFailed":         {"dead containers could not be removed", event.Warning, event.ClassCause, 2},
	"KubeletIsDown":             {"a kubelet is down", event.Critical, event.ClassCause, 1},
	"ContainerRuntimeIsDown":    {"a container runtime is down", event.Critical, event.ClassCause, 1},
	"Rebooted":                  {"a node was rebooted", event.Warning, event.ClassCause, 1},
	"KernelDeadlock":            {"a node's kernel is stuck", event.Critical, event.ClassCause, 1},
	"ReadonlyFilesystem":        {"a node's file system became read-only", event.Critical, event.ClassCause, 1},
	"TaskHung":                  {"a task on a node hangs in the kernel", event.Warning, event.ClassCause, 1},
	"CorruptDockerOverlay2":     {"a node's image store is damaged", event.Warning, event.ClassCause, 1},
	"InvalidDiskCapacity":       {"a node reports a disk of no size", event.Info, event.ClassAmbient, 5},
	"CIDRNotAvailable":          {"no addresses are left for a node's pods", event.Warning, event.ClassCause, 1},
	// Networking and the rest.
	"SyncLoadBalancerFailed":       {"a load balancer could not be set up", event.Warning, event.ClassCause, 2},
	"FailedToUpdateEndpointSlices": {"a Service's endpoints could not be updated", event.Warning, event.ClassCause, 3},
	"FailedToUpdateEndpoint":       {"a Service's endpoints could not be updated", event.Warning, event.ClassCause, 3},
	"IPAddressNotAvailable":        {"no address is left for a Service", event.Warning, event.ClassCause, 1},
	"IssueFailed":                  {"a certificate could not be issued", event.Warning, event.ClassCause, 1},
	"ReconcileError":               {"an operator could not reconcile its object", event.Warning, event.ClassCause, 3},
	"ReconciliationFailed":         {"an operator could not reconcile its object", event.Warning, event.ClassCause, 3},
	"AdmissionWebhookFailed":       {"an admission webhook failed", event.Warning, event.ClassCause, 1},
}

// lookup is what an event means, and whether it is wrong by itself.
func lookup(e event.KubeEvent) (reason, bool) {
	r, ok := reasons[e.Reason]
	if !ok {
		return reason{"", event.Info, event.ClassAmbient, 0}, false
	}
	// One reason, several meanings: the kubelet's words tell them apart.
	msg := strings.ToLower(e.Message)
	switch e.Reason {
	case "Failed", "BackOff":
		switch {
		case strings.Contains(msg, "pull"), strings.Contains(msg, "image"):
			r.meaning = "an image cannot be pulled"
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
