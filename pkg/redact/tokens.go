package redact

import "strings"

// token is how the secrets of one provider begin, and how they go on.
type token struct {
	prefix string // lower case
	name   string // of the mask
	least  int    // characters behind the prefix
	// random tells prefixes that ordinary words have too: what follows must hold
	// letters and digits, or small and capital letters, in an order no word has.
	random bool
}

// tokens are the prefixes that providers publish so that their secrets can be
// found. They are compared in whatever case: a log may have changed it.
var tokens = []token{
	{prefix: "ghp_", name: "github-token", least: 30},
	{prefix: "gho_", name: "github-token", least: 30},
	{prefix: "ghu_", name: "github-token", least: 30},
	{prefix: "ghs_", name: "github-token", least: 30},
	{prefix: "ghr_", name: "github-token", least: 30},
	{prefix: "github_pat_", name: "github-token", least: 30},
	{prefix: "glpat-", name: "gitlab-token", least: 16},
	{prefix: "gldt-", name: "gitlab-token", least: 16},
	{prefix: "glrt-", name: "gitlab-token", least: 16},
	{prefix: "glcbt-", name: "gitlab-token", least: 16},
	{prefix: "glptt-", name: "gitlab-token", least: 16},
	{prefix: "glft-", name: "gitlab-token", least: 16},
	{prefix: "glffct-", name: "gitlab-token", least: 16},
	{prefix: "glsoat-", name: "gitlab-token", least: 16},
	{prefix: "glimt-", name: "gitlab-token", least: 16},
	{prefix: "glagent-", name: "gitlab-token", least: 16},
	{prefix: "gloas-", name: "gitlab-token", least: 16},
	{prefix: "gr1348941", name: "gitlab-token", least: 16},
	{prefix: "_gitlab_session=", name: "cookie", least: 16},
	{prefix: "xoxa-", name: "slack-token", least: 6},
	{prefix: "xoxb-", name: "slack-token", least: 6},
	{prefix: "xoxe-", name: "slack-token", least: 6},
	{prefix: "xoxe.", name: "slack-token", least: 6},
	{prefix: "xoxo-", name: "slack-token", least: 6},
	{prefix: "xoxp-", name: "slack-token", least: 6},
	{prefix: "xoxr-", name: "slack-token", least: 6},
	{prefix: "xoxs-", name: "slack-token", least: 6},
	{prefix: "xapp-", name: "slack-token", least: 6, random: true},
	{prefix: "sk_live_", name: "stripe-key", least: 10},
	{prefix: "sk_test_", name: "stripe-key", least: 10},
	{prefix: "sk_prod_", name: "stripe-key", least: 10},
	{prefix: "rk_live_", name: "stripe-key", least: 10},
	{prefix: "rk_test_", name: "stripe-key", least: 10},
	{prefix: "rk_prod_", name: "stripe-key", least: 10},
	{prefix: "whsec_", name: "stripe-key", least: 16},
	{prefix: "sk-", name: "openai-key", least: 20, random: true},
	{prefix: "pplx-", name: "perplexity-key", least: 30},
	{prefix: "hf_", name: "huggingface-token", least: 30},
	{prefix: "api_org_", name: "huggingface-token", least: 30},
	{prefix: "live_", name: "live-key", least: 30, random: true},
	{prefix: "test_", name: "test-key", least: 30, random: true},
	{prefix: "live_pub_", name: "live-key", least: 30, random: true},
	{prefix: "npm_", name: "npm-token", least: 30, random: true},
	{prefix: "pypi-", name: "pypi-token", least: 40},
	{prefix: "rubygems_", name: "rubygems-token", least: 40},
	{prefix: "clojars_", name: "clojars-token", least: 40},
	{prefix: "pul-", name: "pulumi-token", least: 36, random: true},
	{prefix: "pnu_", name: "prefect-token", least: 30},
	{prefix: "sg.", name: "sendgrid-key", least: 40, random: true},
	{prefix: "xkeysib-", name: "sendinblue-key", least: 40},
	{prefix: "hvs.", name: "vault-token", least: 24},
	{prefix: "hvb.", name: "vault-token", least: 24},
	{prefix: "hvr.", name: "vault-token", least: 24},
	{prefix: "dop_v1_", name: "digitalocean-token", least: 40},
	{prefix: "doo_v1_", name: "digitalocean-token", least: 40},
	{prefix: "dor_v1_", name: "digitalocean-token", least: 40},
	{prefix: "glsa_", name: "grafana-token", least: 32},
	{prefix: "glc_", name: "grafana-token", least: 32},
	{prefix: "eyjrijoi", name: "grafana-token", least: 40},
	{prefix: "dapi", name: "databricks-token", least: 32, random: true},
	{prefix: "shpat_", name: "shopify-token", least: 30},
	{prefix: "shpca_", name: "shopify-token", least: 30},
	{prefix: "shppa_", name: "shopify-token", least: 30},
	{prefix: "shpss_", name: "shopify-token", least: 30},
	{prefix: "atatt3", name: "atlassian-token", least: 50},
	{prefix: "age-secret-key-1", name: "age-key", least: 50},
	{prefix: "aiza", name: "gcp-key", least: 33, random: true},
	{prefix: "ya29.", name: "gcp-token", least: 20},
	{prefix: "ltai", name: "alibaba-key", least: 18, random: true},
	{prefix: "absk", name: "aws-key", least: 100},
	{prefix: "bedrock-api-key-", name: "aws-key", least: 20},
	{prefix: "a3-", name: "1password-key", least: 32, random: true},
	{prefix: "ops_eyj", name: "1password-token", least: 100},
	{prefix: "p8e-", name: "adobe-secret", least: 30},
	{prefix: "akcp", name: "artifactory-key", least: 60},
	{prefix: "cmvmd", name: "artifactory-token", least: 55},
	{prefix: "sc_", name: "authress-key", least: 50, random: true},
	{prefix: "ext_", name: "authress-key", least: 50, random: true},
	{prefix: "scauth_", name: "authress-key", least: 50, random: true},
	{prefix: "authress_", name: "authress-key", least: 50, random: true},
	{prefix: "4b1d", name: "clickhouse-key", least: 36, random: true},
	{prefix: "v1.0-", name: "cloudflare-key", least: 100},
	{prefix: "dp.pt.", name: "doppler-token", least: 40},
	{prefix: "dp.st.", name: "doppler-token", least: 40},
	{prefix: "duffel_live_", name: "duffel-token", least: 40},
	{prefix: "duffel_test_", name: "duffel-token", least: 40},
	{prefix: "dt0c01.", name: "dynatrace-token", least: 60},
	{prefix: "dt0s16.", name: "dynatrace-token", least: 60},
	{prefix: "ezak", name: "easypost-key", least: 50},
	{prefix: "eztk", name: "easypost-key", least: 50},
	{prefix: "eaam", name: "facebook-token", least: 100},
	{prefix: "eaac", name: "facebook-token", least: 100},
	{prefix: "eaaa", name: "square-token", least: 22, random: true},
	{prefix: "sq0atp-", name: "square-token", least: 22},
	{prefix: "flwpubk_test-", name: "flutterwave-key", least: 12},
	{prefix: "flwseck_test-", name: "flutterwave-key", least: 12},
	{prefix: "flwpubk-", name: "flutterwave-key", least: 12},
	{prefix: "flwseck-", name: "flutterwave-key", least: 12},
	{prefix: "fo1_", name: "flyio-token", least: 40},
	{prefix: "fm1a_", name: "flyio-token", least: 40},
	{prefix: "fm1r_", name: "flyio-token", least: 40},
	{prefix: "fm2_", name: "flyio-token", least: 40},
	{prefix: "fio-u-", name: "frameio-token", least: 40},
	{prefix: "pat.", name: "harness-key", least: 60, random: true},
	{prefix: "sat.", name: "harness-key", least: 60, random: true},
	{prefix: "hrku-aa", name: "heroku-key", least: 40},
	{prefix: "ico-", name: "infracost-key", least: 32, random: true},
	{prefix: "s-s4t2ud-", name: "intra42-secret", least: 40},
	{prefix: "s-s4t2af-", name: "intra42-secret", least: 40},
	{prefix: "lin_api_", name: "linear-key", least: 32},
	{prefix: "lin_oauth_", name: "linear-key", least: 32},
	{prefix: "ntn_", name: "notion-token", least: 40},
	{prefix: "api-", name: "octopus-key", least: 26, random: true},
	{prefix: "sha256~", name: "openshift-token", least: 40},
	{prefix: "pscale_tkn_", name: "planetscale-token", least: 30},
	{prefix: "pscale_oauth_", name: "planetscale-token", least: 30},
	{prefix: "pscale_pw_", name: "planetscale-password", least: 30},
	{prefix: "pmak-", name: "postman-key", least: 50},
	{prefix: "rdme_", name: "readme-key", least: 60},
	{prefix: "tk-us-", name: "scalingo-token", least: 40},
	{prefix: "sntrys_", name: "sentry-token", least: 40},
	{prefix: "sntryu_", name: "sentry-token", least: 40},
	{prefix: "sgp_", name: "sourcegraph-token", least: 36},
	{prefix: "sm_aat_", name: "settlemint-token", least: 16},
	{prefix: "sm_pat_", name: "settlemint-token", least: 16},
	{prefix: "sm_sat_", name: "settlemint-token", least: 16},
	{prefix: "shippo_live_", name: "shippo-token", least: 36},
	{prefix: "shippo_test_", name: "shippo-token", least: 36},
	{prefix: "squ_", name: "sonar-token", least: 36},
	{prefix: "sqp_", name: "sonar-token", least: 36},
	{prefix: "sqa_", name: "sonar-token", least: 36},
	{prefix: "dnkey-", name: "defined-key", least: 40},
	{prefix: "dckr_pat_", name: "docker-token", least: 20},
	{prefix: "tfp_", name: "typeform-token", least: 40},
	{prefix: "nrak-", name: "newrelic-key", least: 26},
	{prefix: "nrii-", name: "newrelic-key", least: 26},
	{prefix: "nrjs-", name: "newrelic-key", least: 18},
	{prefix: "key-", name: "mailgun-key", least: 32, random: true},
	{prefix: "pubkey-", name: "mailgun-key", least: 32, random: true},
	{prefix: "secret_", name: "secret", least: 40, random: true},
	{prefix: "zxlk", name: "jwt", least: 20},
	{prefix: "gsk_", name: "groq-key", least: 40, random: true},
	{prefix: "r8_", name: "replicate-token", least: 30, random: true},
	{prefix: "xai-", name: "xai-key", least: 40, random: true},
	{prefix: "lsv2_pt_", name: "langchain-key", least: 32},
	{prefix: "lsv2_sk_", name: "langchain-key", least: 32},
	{prefix: "gocspx-", name: "gcp-secret", least: 24},
	{prefix: "1//0", name: "gcp-token", least: 40, random: true},
	{prefix: "figd_", name: "figma-token", least: 30},
	{prefix: "atctt3", name: "atlassian-token", least: 50},
	{prefix: "atbb", name: "bitbucket-token", least: 28, random: true},
	{prefix: "sbp_", name: "supabase-token", least: 40, random: true},
	{prefix: "sb_secret_", name: "supabase-key", least: 20},
	{prefix: "nfp_", name: "netlify-token", least: 30, random: true},
	{prefix: "ccipat_", name: "circleci-token", least: 40},
	{prefix: "ccipra_", name: "circleci-token", least: 40},
	{prefix: "bkua_", name: "buildkite-token", least: 36},
	{prefix: "dckr_oat_", name: "docker-token", least: 20},
	{prefix: "tskey-", name: "tailscale-key", least: 20},
	{prefix: "sdk-", name: "launchdarkly-key", least: 36, random: true},
	{prefix: "cfpat-", name: "contentful-token", least: 40},
	{prefix: "pat-na1-", name: "hubspot-token", least: 36},
	{prefix: "pat-eu1-", name: "hubspot-token", least: 36},
	{prefix: "sl.", name: "dropbox-token", least: 100, random: true},
	{prefix: "akid", name: "tencent-key", least: 32, random: true},
	{prefix: "aqvn", name: "yandex-key", least: 34, random: true},
	{prefix: "rnd_", name: "render-key", least: 26, random: true},
	{prefix: "phx_", name: "posthog-key", least: 36, random: true},
	{prefix: "v1.local.", name: "paseto-token", least: 40},
	{prefix: "v2.local.", name: "paseto-token", least: 40},
	{prefix: "v3.local.", name: "paseto-token", least: 40},
	{prefix: "v4.local.", name: "paseto-token", least: 40},
	{prefix: "v2.public.", name: "paseto-token", least: 40},
	{prefix: "v4.public.", name: "paseto-token", least: 40},
	{prefix: "iqojb3jpz2lu", name: "aws-token", least: 60},
	{prefix: "fwogzxivyxdz", name: "aws-token", least: 60},
	{prefix: "eyjhbgcioijsu0et", name: "jwt", least: 60},
	{prefix: "eyjhbgcioij", name: "jwt", least: 120},
	{prefix: "patnzv", name: "airtable-token", least: 60},
	{prefix: "pk.eyj", name: "mapbox-token", least: 40},
	{prefix: "sk.eyj", name: "mapbox-token", least: 40},
}

// tokensBy are the tokens by the first byte of their prefixes.
var tokensBy = func() (by [256][]token) {
	for _, t := range tokens {
		by[t.prefix[0]] = append(by[t.prefix[0]], t)
	}
	return by
}()

// tokens masks the secrets that tell their provider by how they begin.
func (r *Redactor) tokens(s string) string {
	var b strings.Builder
	last := 0
	for i := 0; i < len(s); i++ {
		if i > 0 && isWord(s[i-1]) && s[i] != '_' {
			continue
		}
		for _, t := range tokensBy[lowered[s[i]]] {
			if !hasWord(s, i, t.prefix) {
				continue
			}
			from := i + len(t.prefix)
			end := from
			for end < len(s) && isSecret(s[end]) {
				end++
			}
			for end > from && s[end-1] == '.' {
				end-- // the end of a sentence
			}
			if end-from < t.least || t.random && !random(s[from:end]) || insideMask(s, i) {
				continue
			}
			b.WriteString(s[last:i])
			b.WriteString(r.mask(t.name, s[i:end]))
			last, i = end, end-1
			break
		}
	}
	if last == 0 {
		return s
	}
	b.WriteString(s[last:])
	return b.String()
}

// isWord says whether a byte can stand in the middle of a name.
func isWord(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}

// isSecret says whether a byte can stand in a token: base64 in all its forms,
// and what joins its parts.
func isSecret(c byte) bool {
	return isWord(c) || c == '-' || c == '.' || c == '=' || c == '+' || c == '/' || c == '~' || c == '%'
}
