// Package criterion is a detector without Go: a PromQL expression, a model of what
// is normal for it, and what a departure means. The files are
// policies/detectors/*.yaml; the collector evaluates the expressions, and the
// detector service judges the results.
package criterion

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/policy"
)

// Dir is the directory of the policy files.
const Dir = "detectors"

// Model is how normal is told from odd.
type Model string

// The models.
const (
	Threshold     Model = "threshold"      // above or below fixed values
	QuantileBand  Model = "quantile_band"  // outside the quantiles of its own recent past
	Seasonal      Model = "seasonal"       // off Holt-Winters' forecast for the hour
	PredictLinear Model = "predict_linear" // the trend reaches a limit within a horizon
	// Smoothing is off the forecast of Prometheus' function of this name, which was
	// holt_winters before version 3: of a level and a trend. Nothing of it is asked of the
	// server, which calls it experimental.
	Smoothing Model = "double_exponential_smoothing"
)

var metricRE = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)

var models = []Model{Threshold, QuantileBand, Seasonal, PredictLinear, Smoothing}

// Criterion is one file.
type Criterion struct {
	// Name of the detector, and of the signal under which the collector
	// publishes the expression: lower_snake.
	Name string `yaml:"name"`
	// Doc says in one sentence what it finds.
	Doc string `yaml:"doc"`
	// Guard is a metric without which there is nothing to ask: the expression is
	// evaluated only where it is there. Default: none, it is evaluated at every step.
	Guard string `yaml:"guard"`
	// Expr is PromQL. What its labels name is what the anomaly is about: a workload or
	// pod of a namespace, a volume claim, a node, else the namespace, else the cluster.
	// $window is the rate window of the source.
	Expr string `yaml:"expr"`
	// Unit of the value, UCUM-like: s, By, 1, {pod}. Default: none.
	Unit string `yaml:"unit"`
	// Model is threshold, quantile_band, seasonal, predict_linear or
	// double_exponential_smoothing.
	Model Model `yaml:"model"`
	// Above and Below bound what is normal, for threshold and predict_linear
	// (the limit); at least one of them.
	Above *float64 `yaml:"above"`
	Below *float64 `yaml:"below"`
	// Quantiles are the band of quantile_band: [low, high], 0 to 1. Default:
	// [0.001, 0.999].
	Quantiles []float64 `yaml:"quantiles"`
	// MinChange is the least relative distance from what is normal, for
	// quantile_band, seasonal and double_exponential_smoothing. Default: 0.2.
	MinChange float64 `yaml:"min_change"`
	// Smoothing are the factors of level and trend of double_exponential_smoothing,
	// sf and tf of Prometheus, each between 0 and 1. Default: [0.1, 0.02].
	Smoothing []float64 `yaml:"smoothing"`
	// Window is the past that quantile_band and predict_linear look at. Default: 6h.
	Window time.Duration `yaml:"window"`
	// Horizon is how far predict_linear looks ahead. Default: 4h.
	Horizon time.Duration `yaml:"horizon"`
	// For is how long it must last. Default: 5m.
	For time.Duration `yaml:"for"`
	// Class is symptom, saturation, cause or ambient. Only a symptom can page.
	Class event.SignalClass `yaml:"class"`
	// Severity is info, warning or critical. Default: warning.
	Severity event.Severity `yaml:"severity"`
	// Summary is the line people read; $value and the labels as $name are filled
	// in. Default: the doc.
	Summary string `yaml:"summary"`
	// Runbook is a link or the name of a file in policies/runbooks.
	Runbook string `yaml:"runbook"`
}

// Parse reads one file and fills in the defaults.
func Parse(file string, b []byte) (Criterion, error) {
	c := Criterion{
		Quantiles: []float64{0.001, 0.999}, Smoothing: []float64{0.1, 0.02}, MinChange: 0.2, Window: 6 * time.Hour,
		Horizon: 4 * time.Hour, For: 5 * time.Minute, Severity: event.Warning,
	}
	if err := policy.Decode(file, b, &c); err != nil {
		return Criterion{}, err
	}
	return c, nil
}

// Load reads every criterion of a policy store, by file name.
func Load(store *policy.Store) ([]Criterion, error) {
	if store == nil {
		return nil, nil
	}
	var out []Criterion
	var errs []error
	from := map[string]string{}
	for _, name := range store.Glob(Dir, ".yaml") {
		b, _ := store.File(name)
		file := "policies/" + name
		c, err := Parse(file, b)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if other, ok := from[c.Name]; ok {
			errs = append(errs, fmt.Errorf("%s: name: %s is used by %s too; rename one of them", file, c.Name, other))
			continue
		}
		from[c.Name] = file
		out = append(out, c)
	}
	return out, errors.Join(errs...)
}

// Validate checks every field.
func (c *Criterion) Validate() error {
	var errs []error
	bad := func(path string, value any, problem, fix string) {
		errs = append(errs, &policy.FieldError{Path: path, Value: value, Problem: problem, Fix: fix})
	}
	if c.Name == "" || strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
		bad("name", c.Name, "is not lower_snake", "write name: autoscaler_stuck")
	}
	if c.Doc == "" {
		bad("doc", nil, "is missing", "say in one sentence what it finds")
	}
	if c.Guard != "" && !metricRE.MatchString(c.Guard) {
		bad("guard", c.Guard, "is not the name of a metric", "write the metric without which there is nothing to ask, or leave it out")
	}
	if strings.TrimSpace(c.Expr) == "" {
		bad("expr", nil, "is missing", "write a PromQL expression")
	}
	if !slices.Contains(models, c.Model) {
		bad("model", c.Model, "is not threshold, quantile_band, seasonal, predict_linear or double_exponential_smoothing", "write model: threshold")
	}
	if (c.Model == Threshold || c.Model == PredictLinear) && c.Above == nil && c.Below == nil {
		bad("model", c.Model, "needs above or below", "write above: 0")
	}
	if c.Above != nil && c.Below != nil && *c.Below >= *c.Above {
		bad("below", *c.Below, "is not less than above", "nothing would be normal")
	}
	if len(c.Quantiles) != 2 || !(c.Quantiles[0] >= 0 && c.Quantiles[0] < c.Quantiles[1] && c.Quantiles[1] <= 1) {
		bad("quantiles", c.Quantiles, "are not two rising shares", "write [0.001, 0.999]")
	}
	if len(c.Smoothing) != 2 || slices.ContainsFunc(c.Smoothing, func(f float64) bool { return !(f > 0 && f < 1) }) {
		bad("smoothing", c.Smoothing, "are not two factors between 0 and 1", "write [0.1, 0.02]")
	}
	if c.Window < 10*time.Minute || c.Window > 72*time.Hour {
		bad("window", c.Window, "is not between 10m and 72h", "write 6h")
	}
	if c.Horizon < time.Minute || c.Horizon > 90*24*time.Hour {
		bad("horizon", c.Horizon, "is not between 1m and 2160h", "write 4h")
	}
	if c.For < 0 || c.For > 24*time.Hour {
		bad("for", c.For, "is not between 0 and 24h", "write 5m")
	}
	if !slices.Contains([]event.SignalClass{event.ClassSymptom, event.ClassSaturation, event.ClassCause, event.ClassAmbient}, c.Class) {
		bad("class", c.Class, "is not symptom, saturation, cause or ambient", "write cause")
	}
	if c.Severity.Number() == 0 {
		bad("severity", c.Severity, "is not info, warning or critical", "write warning")
	}
	if c.MinChange < 0 {
		bad("min_change", c.MinChange, "is negative", "write 0.2")
	}
	return errors.Join(errs...)
}
