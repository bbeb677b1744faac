package deploy_test

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// values reads a file of chart values.
func values(t *testing.T, file string) object {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := parse(t, b)
	if len(all) != 1 {
		t.Fatalf("%s holds %d documents; helm reads one", file, len(all))
	}
	return all[0]
}

// burnRules are the groups of rules of values-kps.yaml.
func burnRules(t *testing.T) []object {
	t.Helper()
	return values(t, "values-kps.yaml").list("additionalPrometheusRulesMap", "slo-burn-rate", "groups")
}

var (
	comparison = regexp.MustCompile(`ratio_rate(\w+) / \(1 - 0\.999\) > ([0-9.]+)`)
	lengths    = map[string]float64{"5m": 1. / 12, "30m": .5, "1h": 1, "2h": 2, "6h": 6, "1d": 24, "3d": 72}
)

// TestBurnRateThresholdsAreTheBudgetTheyName recomputes each threshold from the
// share of a month's budget that the pages of docs/queries/burn-rate.md give it.
func TestBurnRateThresholdsAreTheBudgetTheyName(t *testing.T) {
	consumed := map[string]float64{"1h": 0.02, "6h": 0.05, "1d": 0.1, "3d": 0.1}
	short := map[string]string{"1h": "5m", "6h": "30m", "1d": "2h", "3d": "6h"}
	recorded, pairs := map[string]bool{}, 0
	for _, g := range burnRules(t) {
		for _, r := range g.list("rules") {
			expr := fmt.Sprint(r.at("expr"))
			if name, ok := r.at("record").(string); ok {
				window := strings.TrimPrefix(name, "namespace_job:slo_errors:ratio_rate")
				recorded[window] = true
				if strings.Count(expr, "["+window+"]") != 2 {
					t.Errorf("%s does not take the rate over %s in both places: %s", name, window, expr)
				}
				continue
			}
			found := comparison.FindAllStringSubmatch(expr, -1)
			if len(found) != 4 || strings.Count(expr, "/") != 4 {
				t.Errorf("%v: want two pairs of windows, each compared with its burn rate: %s", r.at("alert"), expr)
				continue
			}
			for i := 0; i < len(found); i += 2 {
				long, brief := found[i][1], found[i+1][1]
				got, _ := strconv.ParseFloat(found[i][2], 64)
				if want := consumed[long] * 720 / lengths[long]; got < want-1e-9 || got > want+1e-9 || found[i][2] != found[i+1][2] {
					t.Errorf("%v: burn rate above %s and %s in %s and %s, want %v in both: %v of the budget", r.at("alert"), found[i][2], found[i+1][2], long, brief, want, consumed[long])
				}
				if brief != short[long] || !recorded[long] || !recorded[brief] {
					t.Errorf("%v: windows %s and %s, want %s, both recorded", r.at("alert"), long, brief, short[long])
				}
				pairs++
			}
		}
	}
	if pairs != 4 {
		t.Errorf("%d pairs of windows, want 4", pairs)
	}
}

func TestLokiValuesKeepLogsForAsLongAsTheySayAndNoLonger(t *testing.T) {
	v := values(t, "values-loki.yaml")
	schema := v.list("loki", "schemaConfig", "configs")
	if len(schema) != 1 || schema[0].at("store") != "tsdb" || schema[0].at("schema") != "v13" {
		t.Errorf("schema %v, want tsdb and v13", schema)
	}
	if v.at("loki", "limits_config", "retention_period") == nil || v.at("loki", "compactor", "retention_enabled") != true || v.at("loki", "compactor", "delete_request_store") == nil {
		t.Errorf("a retention that nobody carries out: %v, compactor %v", v.at("loki", "limits_config", "retention_period"), v.at("loki", "compactor"))
	}
	for _, o := range []object{v, values(t, "values-alloy.yaml")} {
		if o["promtail"] != nil {
			t.Error("Promtail has reached its end of life")
		}
	}
}
