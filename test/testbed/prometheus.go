package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"
)

// Scrape is one job of a Prometheus.
type Scrape struct {
	Job     string
	Targets []string          // host:port
	Labels  map[string]string // of every target
	Honor   bool              // the target's own namespace and pod labels win
	// Discovery is an address of HTTP service discovery, in place of Targets.
	Discovery string
	// Path is where the metrics are. Default: /metrics.
	Path string
	// Native takes native histograms where there are any.
	Native bool
	// Insecure is HTTPS whose certificate nobody knows, as a kubelet's.
	Insecure bool
}

func (s Scrape) config() map[string]any {
	out := map[string]any{"job_name": s.Job, "honor_labels": s.Honor}
	if s.Discovery != "" {
		out["http_sd_configs"] = []map[string]any{{"url": s.Discovery, "refresh_interval": "1s"}}
	} else {
		out["static_configs"] = []map[string]any{{"targets": s.Targets, "labels": s.Labels}}
	}
	if s.Path != "" {
		out["metrics_path"] = s.Path
	}
	if s.Native {
		out["scrape_native_histograms"] = true
	}
	if s.Insecure {
		out["scheme"], out["tls_config"] = "https", map[string]any{"insecure_skip_verify": true}
	}
	return out
}

// PrometheusConfig says what a Prometheus reads. The zero value reads nothing.
type PrometheusConfig struct {
	Scrapes       []Scrape
	Interval      time.Duration // of scrapes and rules; 0: 1s
	Rules         string        // a rule file's content
	Alertmanagers []*Server
	Door          Door
	// History is what was there before it started, by namespace, as [Shop.History]
	// gives it.
	History []map[string][]string
	// Backfill are files of OpenMetrics text of what was there before, too, none of
	// them across a multiple of [BackfillBlock] since 1970.
	Backfill []string
	// RemoteWrite are sections of remote_write, as in Prometheus' own file.
	RemoteWrite []map[string]any
	// External are the labels added towards Alertmanager and remotes.
	External map[string]string
}

// Server is a running HTTP server of the bed.
type Server struct {
	*Process
	URL    string
	Addr   string // host:port
	Client *http.Client
	Door   Door
}

// target is how a Prometheus is told to send to the server.
func (s *Server) target() map[string]any {
	out := map[string]any{"static_configs": []map[string]any{{"targets": []string{s.Addr}}}}
	if s.Door.Locked() {
		out["scheme"] = "https"
		out["tls_config"] = map[string]any{"ca_file": s.Door.Authority.CAFile}
		out["basic_auth"] = map[string]any{"username": s.Door.User, "password": s.Door.Password}
	}
	return out
}

// StartPrometheus starts a Prometheus that also accepts remote writes, of up
// to a day ago.
func (b *Bed) StartPrometheus(ctx context.Context, cfg PrometheusConfig) (*Server, error) {
	bin, err := Program(ctx, "prometheus", os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := b.dir("prometheus")
	if err != nil {
		return nil, err
	}
	if err := writePrometheus(dir, cfg); err != nil {
		return nil, err
	}
	if err := remember(ctx, dir, cfg.History); err != nil {
		return nil, err
	}
	for _, file := range cfg.Backfill {
		if err := backfill(ctx, dir, file, BackfillBlock); err != nil {
			return nil, err
		}
	}
	web, scheme, err := webConfig(dir, "prometheus", cfg.Door)
	if err != nil {
		return nil, err
	}
	client, err := cfg.Door.Client()
	if err != nil {
		return nil, err
	}
	url := func(ports []int) string { return scheme + "://" + local(ports[0]) }
	p, ports, err := b.start(ctx, command{
		name: "prometheus", ports: 1,
		argv: func(ports []int) ([]string, []string, error) {
			argv := []string{
				bin, "--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"),
				"--web.listen-address=" + local(ports[0]), "--web.enable-remote-write-receiver", "--web.enable-lifecycle", "--log.level=warn",
			}
			return append(argv, web...), nil, nil
		},
		ready: func(ctx context.Context, ports []int) error { return answers(ctx, client, url(ports)+"/-/ready") },
	})
	if err != nil {
		return nil, err
	}
	return &Server{Process: p, URL: url(ports), Addr: local(ports[0]), Client: client, Door: cfg.Door}, nil
}

// remember fills the data directory with what was there before.
func remember(ctx context.Context, dir string, history []map[string][]string) error {
	if len(history) == 0 {
		return nil
	}
	all := map[string][]string{}
	for _, h := range history {
		for family, lines := range h {
			all[family] = append(all[family], lines...)
		}
	}
	var text bytes.Buffer
	writeFamilies(&text, all, "http_requests")
	text.WriteString("# EOF\n")
	file := filepath.Join(dir, "history.om")
	if err := os.WriteFile(file, text.Bytes(), 0o644); err != nil {
		return err
	}
	return backfill(ctx, dir, file, 2*time.Hour)
}

// BackfillBlock is how long the blocks of what was there before are: about as long
// as those of a Prometheus that has run for some days.
const BackfillBlock = 18 * time.Hour

// backfill makes blocks, of a length at most, of a file of OpenMetrics text.
func backfill(ctx context.Context, dir, file string, block time.Duration) error {
	promtool, err := Program(ctx, "promtool", os.Stderr)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, promtool, "tsdb", "create-blocks-from", "openmetrics", "--max-block-duration="+block.String(), file, filepath.Join(dir, "data")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("history of prometheus: %w\n%s", err, tail(string(out), 5))
	}
	return nil
}

func writePrometheus(dir string, cfg PrometheusConfig) error {
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	type object = map[string]any
	every := fmt.Sprintf("%dms", cfg.Interval.Milliseconds())
	var scrapes []object
	for _, s := range cfg.Scrapes {
		scrapes = append(scrapes, s.config())
	}
	doc := object{
		"global":         object{"scrape_interval": every, "evaluation_interval": every, "scrape_timeout": every, "external_labels": cfg.External},
		"scrape_configs": scrapes,
		"storage":        object{"tsdb": object{"out_of_order_time_window": "24h"}},
	}
	if len(cfg.RemoteWrite) > 0 {
		doc["remote_write"] = cfg.RemoteWrite
	}
	if len(cfg.Alertmanagers) > 0 {
		var all []object
		for _, a := range cfg.Alertmanagers {
			all = append(all, a.target())
		}
		doc["alerting"] = object{"alertmanagers": all}
	}
	if cfg.Rules != "" {
		doc["rule_files"] = []string{"rules.yml"}
		if err := os.WriteFile(filepath.Join(dir, "rules.yml"), []byte(cfg.Rules), 0o644); err != nil {
			return err
		}
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "prometheus.yml"), text, 0o644)
}

// webConfig is the flag that gives a server of the Prometheus family its door.
func webConfig(dir, name string, d Door) (flags []string, scheme string, err error) {
	if !d.Locked() {
		return nil, "http", nil
	}
	cert, key, err := d.Authority.Issue(name)
	if err != nil {
		return nil, "", err
	}
	doc := map[string]any{"tls_server_config": map[string]any{"cert_file": cert, "key_file": key}}
	if d.User != "" {
		hash, err := bcrypt.GenerateFromPassword([]byte(d.Password), bcrypt.MinCost)
		if err != nil {
			return nil, "", err
		}
		doc["basic_auth_users"] = map[string]string{d.User: string(hash)}
	}
	text, err := yaml.Marshal(doc)
	if err != nil {
		return nil, "", err
	}
	file := filepath.Join(dir, "web.yml")
	return []string{"--web.config.file=" + file}, "https", os.WriteFile(file, text, 0o600)
}

// Query asks a Prometheus for the values of an instant vector, by the text of
// each series' labels.
func (s *Server) Query(ctx context.Context, promql string) (map[string]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/api/v1/query?query="+url.QueryEscape(promql), nil)
	if err != nil {
		return nil, err
	}
	res, err := s.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Error string
		Data  struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, fmt.Errorf("query %s: %w", promql, err)
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("query %s: %s", promql, answer.Error)
	}
	out := map[string]string{}
	for _, r := range answer.Data.Result {
		text, _ := json.Marshal(r.Metric) // sorted by name
		out[strings.TrimSpace(string(text))] = fmt.Sprint(r.Value[1])
	}
	return out, nil
}
