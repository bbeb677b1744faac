package evidence

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tally says in a line how a set of pods is: how many there are, how many are
// ready, and how many are in which trouble. It counts all of them, also when
// the list below it is cut.
func tally(pods []object) string {
	ready, restarts := 0, 0.0
	trouble := map[string]int{}
	for _, p := range pods {
		ready += readyRank(p)
		status := child(p, "status")
		seen := map[string]bool{} // a pod counts once, however many containers it has
		if phase := text(status, "phase"); phase != "" && phase != "Running" {
			seen[phase] = true
		}
		if r := text(status, "reason"); r != "" {
			seen[r] = true
		}
		for _, list := range []string{"initContainerStatuses", "containerStatuses"} {
			for _, c := range children(status, list) {
				n, _ := c["restartCount"].(float64)
				restarts += n
				if r := text(child(child(c, "state"), "waiting"), "reason"); r != "" && r != "PodInitializing" {
					seen[r] = true
				}
				for _, which := range []string{"state", "lastState"} {
					end := child(child(c, which), "terminated")
					code, coded := end["exitCode"].(float64)
					switch r := text(end, "reason"); {
					case r == "Completed" && code == 0, r == "" && !coded:
					case r == "" || r == "Error":
						seen[fmt.Sprintf("exit code %g", code)] = true
					default:
						seen[fmt.Sprintf("%s (exit code %g)", r, code)] = true
					}
				}
			}
		}
		for k := range seen {
			trouble[k]++
		}
	}
	parts := []string{Count(len(pods), "pod"), fmt.Sprintf("%d/%d ready", ready, len(pods))}
	for _, k := range slices.Sorted(maps.Keys(trouble)) {
		parts = append(parts, fmt.Sprintf("%d %s", trouble[k], k))
	}
	if restarts > 0 {
		parts = append(parts, Count(int(restarts), "restart"))
	}
	return strings.Join(parts, ", ")
}

// Count says how many there are of something: 1 pod, 2 pods, 3 classes.
func Count(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		return fmt.Sprintf("%d %ses", n, what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
