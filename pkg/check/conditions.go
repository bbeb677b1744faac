package check

import "strings"

// Condition is something that can be wrong with a cluster, in the words of those
// who look for it: k8sgpt's analyzers, Popeye's codes, Robusta's triggers and the
// kubernetes-mixin's alerts. docs/health-checks.md is made of them.
type Condition struct {
	Area string
	Name string
	// By are the checks of [All] and the rules of policies/rules that find it.
	// None: Out says why.
	By []string
	// Zoo are the exhibits that show it, in test/integration/health/testdata/broken.
	Zoo []string
	// Out says why it is left out, or what of it is.
	Out string
}

// Reasons for which conditions are left out.
const (
	fromMetrics = "Where there is a Prometheus."
	fromLogs    = "Where there is a Loki."
	thirdParty  = "a third party's product that is not in the test bed"
	onlyHygiene = "Read only where hygiene is asked for."
	secretsOnly = "needs the right to list Secrets, which is never asked for; what the kubelet says about them is told"
)

func words(s string) []string { return strings.Fields(s) }

// Conditions are all that is known to be looked for by anybody.
var Conditions = []Condition{
	{"Pods", "Pod unschedulable", words("pods unschedulable_cpu unschedulable_memory unschedulable_resource unschedulable_taints unschedulable_affinity unschedulable_ports unschedulable_volume too_many_pods"), words("unschedulable-cpu unschedulable-memory unschedulable-resource unschedulable-selector unschedulable-taint volume-claim-missing"), ""},
	{"Pods", "Held by a scheduling gate", words("pods"), nil, ""},
	{"Pods", "Sandbox or mount fails (FailedCreatePodSandBox, FailedMount)", words("pods sandbox_failed mount_failed references"), words("sandbox mount-failed"), ""},
	{"Pods", "CrashLoopBackOff, by exit code and last line", words("pods crash_loop_app_error crash_loop_command crash_loop_signal crash_loop_clean_exit killed_from_outside wrong_architecture"), words("crash-loop command-not-found wrong-architecture segmentation-fault clean-exit"), ""},
	{"Pods", "ImagePullBackOff, ErrImagePull, ErrImageNeverPull, InvalidImageName, ImageInspectError", words("pods image_not_found image_unauthorized image_rate_limited image_registry_unreachable image_invalid"), words("image-not-found image-unauthorized image-rate-limited image-registry-unreachable image-name-invalid image-never-pulled"), ""},
	{"Pods", "CreateContainerConfigError, CreateContainerError, RunContainerError, failing hooks", words("pods references secret_references config_missing container_create_failed crash_loop_command"), words("config-map-missing secret-missing container-create-error post-start-hook"), ""},
	{"Pods", "OOMKilled", words("pods oom_killed memory_limit_lowered"), words("oom-killed oom-once"), ""},
	{"Pods", "Exit code that is not 0", words("pods crash_loop_app_error"), words("crash-loop"), "Not once: one restart after an error is what restarts are for."},
	{"Pods", "More than five restarts", words("pods"), words("restarting"), "Three within the last hour, not five since the pod was made."},
	{"Pods", "Running and not ready; a probe fails", words("pods readiness_failing liveness_failing startup_failing"), words("readiness-probe liveness-probe"), ""},
	{"Pods", "Evicted, preempted", words("pods evicted preempted"), words("evicted"), ""},
	{"Pods", "Phase Failed or Unknown", words("pods"), words("pod-failed"), ""},
	{"Pods", "Terminating and not gone", words("pods"), nil, "Only five minutes beyond its grace period."},
	{"Pods", "Init container fails, or does not end", words("pods init_container_failing"), words("init-container"), ""},
	{"Pods", "Kill, PreStop or grace period exceeded events", words("pods pod_endings"), words("pre-stop-hook"), "Where the pod is stuck by it."},
	{"Pods", "Errors in the last hundred log lines", words("log_statements new_error_in_logs log_errors_grow"), nil, fromLogs + " Those that are new or come far oftener; of containers that crash, the last lines are read."},
	{"Pods", "A log line that came steadily has stopped, or a value in lines moved", words("log_line_missing log_value_moved"), nil, "The services watch it, with a day of Loki; one look cannot."},
	{"Pods", "Logs unreadable", words("unreadable_logs"), words("logs-unreadable"), "Of containers that crash: the node's, where its kubelet is not reached; else it is said what was not checked."},
	{"Pods", "CPU or memory near the limit", words("memory_limit cpu_limit memory_near_limit"), nil, fromMetrics + " Memory by its trend, with the time left."},
	{"Pods", "CPU throttled", words("cpu_limit cpu_throttled"), nil, fromMetrics + " The cause of what is slow; hygiene else."},
	{"Pods", "Nobody would replace the pod", words("pod_hygiene"), words("bare-pod"), ""},
	{"Pods", "No probes", words("pod_hygiene"), words("untidy"), ""},
	{"Pods", "No requests or limits", words("pod_hygiene"), words("untidy"), ""},
	{"Pods", "Untagged or latest image", words("pod_hygiene"), words("untidy"), ""},
	{"Pods", "Registry that is not allowed", words("registry_hygiene"), words("registry"), "Where policies/health.yaml names those that are."},
	{"Pods", "Privileged, root, no security context", words("pod_hygiene"), words("untidy"), ""},
	{"Pods", "Default ServiceAccount, token mounted", words("pod_hygiene"), words("untidy"), ""},
	{"Pods", "ServiceAccount missing", words("pod_creation references service_account_missing"), words("service-account-missing"), ""},
	{"Pods", "Secret or pull secret missing", words("secret_references config_missing image_unauthorized"), words("secret-missing image-unauthorized"), secretsOnly},
	{"Pods", "ConfigMap, claim, PriorityClass or RuntimeClass missing", words("references pod_creation"), words("config-map-missing volume-claim-missing"), ""},
	{"Pods", "No PodDisruptionBudget", words("disruption_hygiene"), words("no-budget"), ""},
	{"Pods", "Pod without a NetworkPolicy", words("isolation_hygiene"), words("untidy"), ""},

	{"Workloads", "Deployment with fewer pods ready than wanted", words("pods replicas deployments below_desired"), words("readiness-probe"), "By its pods, so that the line says what is wrong with them."},
	{"Workloads", "Deployment with more replicas than wanted", words("surplus"), nil, "Not while a rollout surges."},
	{"Workloads", "Rollout stuck (Progressing=False)", words("deployments rollout_stuck"), words("rollout-stuck"), ""},
	{"Workloads", "Generation not observed (Deployment, StatefulSet, DaemonSet)", words("deployments statefulsets daemonsets"), nil, ""},
	{"Workloads", "Scaled to zero", words("idle_hygiene"), words("idle"), ""},
	{"Workloads", "Pods cannot be created (FailedCreate): quota, limits, Pod Security, webhooks", words("pod_creation deployments statefulsets quota_exhausted limit_range pod_security admission_refused"), words("quota-exhausted limit-range pod-security service-account-missing"), ""},
	{"Workloads", "ReplicaSet unready", words("pods"), words("readiness-probe"), "Of a Deployment: on the Deployment's line."},
	{"Workloads", "StatefulSet replicas mismatch, pod not running", words("pods replicas statefulsets"), words("stateful-set-crash"), ""},
	{"Workloads", "StatefulSet update not rolled out", words("updates"), nil, "By the pod that holds it up."},
	{"Workloads", "StatefulSet's Service missing", words("statefulsets"), words("stateful-set-service"), ""},
	{"Workloads", "StatefulSet's StorageClass missing", words("references unschedulable_volume"), words("storage-class-missing"), ""},
	{"Workloads", "DaemonSet unready or not scheduled", words("pods replicas updates daemonsets daemon_below_desired"), words("daemon-set-crash"), ""},
	{"Workloads", "DaemonSet misscheduled", words("daemonsets"), words("daemon-set-misscheduled"), ""},
	{"Workloads", "Selector matches no pod", words("replicas pod_creation deployments statefulsets"), nil, "By the pods that are wanted and not there. A selector that its own template does not match is refused by the API server."},
	{"Workloads", "Helm release failed or pending", words("helm_releases custom_resources"), words("helm-release-failed flux-release"), "Where Helm keeps its records in ConfigMaps, and of Flux's HelmReleases. In Secrets they are never read."},
	{"Workloads", "ConfigMap unused or empty, or over 1 MB", words("config_map_hygiene"), nil, "By their metadata; the content is never read. The API server refuses more than 1 MiB."},
	{"Workloads", "Workload or Ingress changed", words("bad_rollout config_changed"), nil, "The pipeline's timeline tells it; a change is no trouble by itself."},

	{"Jobs", "Job failed, by its backoff limit or deadline", words("jobs job_failed"), words("job-failed job-deadline"), ""},
	{"Jobs", "Job runs for more than twelve hours", words("jobs"), nil, ""},
	{"Jobs", "Job or CronJob suspended", words("job_hygiene"), words("cron-forgotten"), ""},
	{"Jobs", "CronJob's schedule or deadline is invalid", words("cronjobs"), nil, "The API server refuses most of them."},
	{"Jobs", "CronJob never ran, or not when it was due", words("cronjobs cronjob_missed"), words("cron-never-ran"), "Reckoned from its schedule and time zone."},
	{"Jobs", "Warning event of a Job", words("jobs"), nil, ""},

	{"Autoscaling and budgets", "Autoscaler's target missing, or of a kind that cannot be scaled", words("autoscalers"), words("autoscaler-target-missing"), ""},
	{"Autoscaling and budgets", "Autoscaler's target without requests", words("autoscalers"), words("autoscaler-without-requests"), ""},
	{"Autoscaling and budgets", "Autoscaler cannot scale: condition false, no metrics", words("autoscalers hpa_no_metrics"), words("autoscaler-without-metrics"), ""},
	{"Autoscaling and budgets", "Autoscaler at its maximum, not as many as it wants", words("autoscalers hpa_at_max"), nil, ""},
	{"Autoscaling and budgets", "Autoscaler's maximum is more than the cluster holds", words("plan_hygiene"), words("autoscaler-too-large"), "Against what the nodes have free now."},
	{"Autoscaling and budgets", "KEDA scaler, target or trigger failed", words("keda"), words("keda-failed"), ""},
	{"Autoscaling and budgets", "PodDisruptionBudget selects nothing", words("budget_hygiene"), words("budget-selects-nothing"), ""},
	{"Autoscaling and budgets", "PodDisruptionBudget demands more pods than there are, or all: no drain ends", words("budgets"), words("budget-blocks-drain"), ""},
	{"Autoscaling and budgets", "PodDisruptionBudget with too few healthy pods", words("budgets"), words("budget-unhealthy"), ""},
	{"Autoscaling and budgets", "CPU or memory requested far from what is used", words("requests_hygiene"), nil, fromMetrics + " `oncall cost` says what to request."},
	{"Autoscaling and budgets", "Quota exhausted, or over 90 %", words("quotas pod_creation quota_exhausted quota_near"), words("quota-exhausted quota-near"), ""},
	{"Autoscaling and budgets", "Quotas promise more than the cluster has", words("plan_hygiene"), nil, "More than one and a half times as much, as in the kubernetes-mixin."},
	{"Autoscaling and budgets", "Namespace not active: stuck terminating", words("namespaces"), nil, ""},

	{"Networking", "Service without endpoints", words("service_endpoints"), words("service-selects-nothing"), ""},
	{"Networking", "Endpoints not ready", words("service_endpoints pods"), nil, "On the line of the workload that takes them down."},
	{"Networking", "Service warning event; load balancer without an address", words("load_balancers"), words("load-balancer-update"), ""},
	{"Networking", "Port matches nothing", words("service_ports service_hygiene"), words("service-port"), ""},
	{"Networking", "Single endpoint", words("service_hygiene"), words("single-endpoint"), ""},
	{"Networking", "LoadBalancer or NodePort policy, external traffic policy", words("exposure_hygiene"), words("exposed"), "Which are allowed is for policies/health.yaml to say."},
	{"Networking", "Ingress class absent or unknown", words("ingresses"), words("ingress-class"), ""},
	{"Networking", "Ingress backend missing", words("ingresses"), words("ingress-service-missing"), ""},
	{"Networking", "Ingress port undefined", words("ingresses"), words("ingress-port"), ""},
	{"Networking", "Ingress TLS Secret missing", words("ingresses"), nil, secretsOnly},
	{"Networking", "Ingress load balancer port error", words("ingresses"), words("ingress-port-error"), ""},
	{"Networking", "GatewayClass or Gateway not accepted", words("gateways"), words("gateway-refused"), ""},
	{"Networking", "GatewayClass missing", words("gateways"), words("gateway-class"), ""},
	{"Networking", "Route to a missing Gateway or Service", words("routes"), words("route-gateway route-backend"), ""},
	{"Networking", "Route refused by namespace or label, port mismatch", words("routes"), words("route-refused"), ""},
	{"Networking", "NetworkPolicy selects nothing", words("policy_hygiene"), words("policy-selects-nothing"), ""},
	{"Networking", "NetworkPolicy denies or allows all", words("isolated_services no_dns"), words("network-policy"), ""},
	{"Networking", "Name resolution fails", words("no_dns dns_shift log_statements dns_failing dns_errors"), nil, fromMetrics + " Else that a policy cuts pods off from DNS, and what logs say of it."},
	{"Networking", "Latency of an application shifts", words("latency_shift"), nil, fromMetrics},
	{"Networking", "Errors of an application shift, or burn its error budget", words("error_shift"), nil, fromMetrics},

	{"Storage", "Claim pending, provisioning failed", words("claims references pvc_pending"), words("claim-pending storage-class-missing"), ""},
	{"Storage", "Claim lost", words("claims pvc_lost"), words("claim-lost"), ""},
	{"Storage", "Volume released or unclaimed", words("volume_hygiene"), words("volume-released"), ""},
	{"Storage", "Volume failed, pending or lost", words("volumes"), words("volume-failed"), ""},
	{"Storage", "Claim tiny, no class, many default classes, provisioner deprecated", words("volume_hygiene"), nil, ""},
	{"Storage", "Volume filling, inodes running out", words("volume_space volume_filling inodes_running_out"), nil, fromMetrics + " With the time to full."},
	{"Storage", "Attach, mount, resize and delete events", words("pods mount_failed multi_attach volume_resize_failed"), words("mount-failed multi-attach"), ""},

	{"Rights", "Binding to a role or ServiceAccount that is not there", words("binding_hygiene"), words("role-missing"), onlyHygiene},
	{"Rights", "Role with wildcards", words("role_hygiene"), words("role-wildcard"), onlyHygiene + " Where somebody is bound to it, and not what an operator may do with its own kinds."},

	{"Admission and certificates", "Webhook whose Service is missing or without a pod", words("webhooks webhook_hygiene"), words("webhook"), ""},
	{"Admission and certificates", "Deleted, and not gone: a finalizer waits", words("deletions"), nil, "Only what is so for five minutes."},
	{"Admission and certificates", "Aggregated API unavailable", words("apiservices"), words("api-service"), ""},
	{"Admission and certificates", "Certificate expired or expiring, not renewed", words("certificates certificate_expiring certificate_invalid"), words("certificate-expired"), "Of cert-manager's objects; Secrets are not read."},

	{"Nodes", "Node not ready, or its state unknown", words("nodes node_not_ready pods_on_unready_node"), words("node-silent"), "One line, with how many pods it concerns."},
	{"Nodes", "Memory, disk or PID pressure", words("nodes node_pressure"), words("node-memory-pressure node-disk-pressure"), ""},
	{"Nodes", "Condition set by a problem detector", words("nodes"), words("node-kernel"), ""},
	{"Nodes", "Network unavailable", words("nodes node_network"), words("node-network"), ""},
	{"Nodes", "Unreachable taint", words("nodes"), words("node-silent"), ""},
	{"Nodes", "Readiness flaps", words("node_events node_flapped"), words("node-flaps"), ""},
	{"Nodes", "Cordoned", words("node_hygiene"), words("cordoned"), ""},
	{"Nodes", "Taint that nobody tolerates", words("node_hygiene"), words("node-taint"), ""},
	{"Nodes", "More than 95 % of the pods it may hold", words("node_capacity"), words("node-full"), ""},
	{"Nodes", "CPU or memory over 80 %", words("node_saturation node_saturated"), nil, fromMetrics + " Over 90 %, as in the kubernetes-mixin: 80 % is what nodes are for."},
	{"Nodes", "File system filling", words("nodes volume_space"), words("node-disk-pressure"), "By DiskPressure; before that, with the time to full, where there is a Prometheus."},
	{"Nodes", "Evictions by the kubelet", words("pods node_events"), words("evicted"), ""},
	{"Nodes", "PLEG and pod start latency, kubelet down, kubelet certificates", words("kubelets"), nil, fromMetrics},
	{"Nodes", "A single control-plane node", words("node_hygiene"), words("control-plane-single"), ""},
	{"Nodes", "SystemOOM, OOMKilling, FreeDiskSpaceFailed, NodeShutdown and such events", words("node_events"), words("node-out-of-memory"), ""},
	{"Nodes", "Clock ahead of the API server's, or behind", words("node_clocks"), words("node-clock"), "By the leases that kubelets renew."},
	{"Nodes", "Kubelet and API server versions too far apart", words("node_versions"), nil, ""},
	{"Nodes", "CPU or memory overcommitted: no node may die", words("node_capacity"), nil, ""},
	{"Nodes", "No metrics-server", words("hpa_no_metrics"), words("autoscaler-without-metrics"), "Where an autoscaler misses it."},

	{"Control plane", "API error budget burn, server terminates, client errors", words("api_requests apiserver_slow"), nil, fromMetrics},
	{"Control plane", "Client certificate about to end", words("api_requests"), nil, fromMetrics},
	{"Control plane", "Aggregated API errors, or up for less than 85 % of the time", words("api_requests apiservices"), nil, fromMetrics + " Else that it is not available now."},
	{"Control plane", "API server not ready, slow to answer, or its certificate about to end", words("api_server"), nil, ""},
	{"Control plane", "API server down", words("targets"), nil, fromMetrics + " One of several; where none can be reached the command ends with exit code 3."},
	{"Control plane", "Controller manager, scheduler, proxy down", words("controllers targets"), nil, "By the leases that they renew; targets where there is a Prometheus."},
	{"Control plane", "Old Kubernetes, deprecated APIs", words("server_age api_requests"), nil, "Deprecated APIs where there is a Prometheus."},
	{"Control plane", "Prometheus configuration bad, nothing scraped, rules or notifications fail", words("monitoring targets"), nil, fromMetrics},

	{"Other controllers", "OLM: ClusterServiceVersion, Subscription, InstallPlan, CatalogSource, OperatorGroup, ClusterExtension", words("custom_resources"), words("operator-failed"), ""},
	{"Other controllers", "Flux, Argo CD, Argo Rollouts, External Secrets", words("custom_resources"), words("flux-release argo-sync external-secret"), ""},
	{"Other controllers", "Prometheus Operator: not available, configuration not taken over", words("custom_resources"), words("prometheus-not-reconciled"), ""},
	{"Other controllers", "Cilium and Kyverno policies that are not in force", words("custom_resources"), words("cilium-policy-invalid"), ""},
	{"Other controllers", "Cilium policy selects nothing", words("cilium_hygiene"), nil, "Of policies; endpoints and identities are Cilium's own to tidy up."},
	{"Other controllers", "Policy violations (Kyverno and others)", words("policy_reports"), words("policy-violated"), onlyHygiene},
	{"Other controllers", "EKS health issues, CVE reports", nil, nil, thirdParty},
	{"Other controllers", "KRR job failed", words("jobs"), nil, "A Job as any other."},
}
