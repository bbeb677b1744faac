package compat

import (
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/viper"
	"github.com/zricethezav/gitleaks/v8/cmd/generate/config/utils"
	"github.com/zricethezav/gitleaks/v8/cmd/generate/secrets"
	"github.com/zricethezav/gitleaks/v8/config"
	"github.com/zricethezav/gitleaks/v8/detect"

	"github.com/oncall-copilot/oncall/pkg/redact"
)

// notOfLogs are the rules that cannot be asked of a line of a log, and why.
var notOfLogs = map[string]string{
	"pkcs12-file":                            "it looks at the name of a file",
	"kubernetes-secret-yaml":                 "it looks at a manifest of several lines, and its generator makes none that it finds",
	"hashicorp-tf-password":                  "it looks at Terraform's files only",
	"nuget-config-password":                  "it looks at NuGet's files only",
	"freemius-secret-key":                    "it looks at PHP's files only",
	"sourcegraph-access-token":               "forty hexadecimal digits alone are a commit, which an engineer needs; the prefixed ones are masked",
	"jwt-base64":                             "its generator makes the part of a token that is the same in all, encoded twice",
	"nytimes-access-token":                   "its expression wants a comma in the key",
	"aws-amazon-bedrock-api-key-short-lived": "its expression is the part that all such keys have in common",
}

// perRule is how many secrets are made of each rule.
const perRule = 40

func rules(t *testing.T) (config.Config, *detect.Detector) {
	t.Helper()
	v := viper.New()
	v.SetConfigType("toml")
	if err := v.ReadConfig(strings.NewReader(config.DefaultConfig)); err != nil {
		t.Fatal(err)
	}
	var vc config.ViperConfig
	if err := v.Unmarshal(&vc); err != nil {
		t.Fatal(err)
	}
	cfg, err := vc.Translate()
	if err != nil {
		t.Fatal(err)
	}
	return cfg, detect.NewDetector(cfg)
}

// oneLine makes a generated text one that could stand in a log: the generator
// puts line ends between key and value, and takes the long s and the sign of
// kelvin for letters of any case.
var oneLine = strings.NewReplacer("\u017f", "s", "\u212a", "k", "\n", " ", "\r", " ", "\f", " ", "\v", " ", "\t", " ")

type tally struct{ made, masked int }

func (t *tally) add(masked bool) {
	t.made++
	if masked {
		t.masked++
	}
}

func (t tally) percent() float64 { return 100 * float64(t.masked) / float64(max(1, t.made)) }

// TestRecallOnWhatGitleaksGenerates makes secrets by gitleaks' own generators,
// keeps those that gitleaks itself finds, and asks how many we mask.
func TestRecallOnWhatGitleaksGenerates(t *testing.T) {
	rand.Seed(1)
	cfg, find := rules(t)
	mask := redact.New(redact.Options{Key: []byte("0123456789abcdef")})
	var bare, assigned tally
	silent := 0
	for _, id := range slices.Sorted(maps.Keys(cfg.Rules)) {
		rule := cfg.Rules[id]
		if notOfLogs[id] != "" || rule.Regex == nil {
			continue
		}
		var b, a tally
		var missed string
		for range perRule {
			text := oneLine.Replace(secrets.NewSecret(rule.Regex.String()))
			secret := secretOf(find, id, text)
			if secret == "" {
				continue // gitleaks does not find it either
			}
			hidden := !strings.Contains(mask.Line(text), secret)
			if b.add(hidden); !hidden {
				missed = text
			}
			if len(rule.Keywords) == 0 || a.made > 60 {
				continue
			}
			for _, sample := range utils.GenerateSampleSecrets(rule.Keywords[0], secret) {
				line := oneLine.Replace(sample)
				if secretOf(find, "", line) == secret {
					a.add(!strings.Contains(mask.Line(line), secret))
				}
			}
		}
		if b.made == 0 {
			silent++
			t.Logf("%s: its generator makes nothing that its rule finds", id)
		}
		if b.masked < b.made || a.masked < a.made {
			t.Logf("%s: %d of %d alone, %d of %d given to keys; missed %q", id, b.masked, b.made, a.masked, a.made, missed)
		}
		bare.made, bare.masked = bare.made+b.made, bare.masked+b.masked
		assigned.made, assigned.masked = assigned.made+a.made, assigned.masked+a.masked
	}
	t.Logf("rules %d, not of logs %d, generators that find nothing %d", len(cfg.Rules), len(notOfLogs), silent)
	t.Logf("by a rule's expression: %d of %d masked, %.2f %%", bare.masked, bare.made, bare.percent())
	t.Logf("given to a key, in their 26 forms: %d of %d masked, %.2f %%", assigned.masked, assigned.made, assigned.percent())
	if bare.percent() < 99 || assigned.percent() < 99 {
		t.Error("less than 99 % of the generated secrets are masked")
	}
	if bare.made < 5000 || assigned.made < 10000 {
		t.Errorf("only %d and %d secrets were generated: the figure says nothing", bare.made, assigned.made)
	}
}

// secretOf is what a rule of gitleaks, or any for "", finds in a text; "" when
// nothing.
func secretOf(d *detect.Detector, id, text string) string {
	for _, f := range d.DetectString(text) {
		if id == "" || f.RuleID == id {
			return f.Secret
		}
	}
	return ""
}
