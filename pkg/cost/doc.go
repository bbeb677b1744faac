// Package cost says what of a cluster is paid for and not used, what would be
// enough, and why.
//
// [ReadUsage] asks Prometheus a few aggregated questions about the use of
// containers, [Examine] folds them over the objects of a [check.Cluster]:
// capacity, waste, and recommended requests that are never below the highest use
// that was seen. [Patches] writes those as patches, which nobody here applies.
package cost
