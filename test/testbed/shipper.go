package testbed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// shipper follows the log files of a node's pods, as Alloy would, and brings
// the lines to Loki. It also tells Prometheus where the pods' metrics are,
// which they say in their first line.
type shipper struct {
	dir string
	cfg NodeConfig

	mu      sync.Mutex
	offsets map[string]int64  // by file
	metrics map[string]string // address by file
}

func newShipper(dir string, cfg NodeConfig) *shipper {
	return &shipper{dir: dir, cfg: cfg, offsets: map[string]int64{}, metrics: map[string]string{}}
}

func (s *shipper) run(ctx context.Context) {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		// Files come and go with their pods; what fails now is read next time.
		_ = s.ship(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// to gives the lines to a Loki, from the beginning of every file.
func (s *shipper) to(loki *Server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Loki = loki
	clear(s.offsets)
}

// logFile is <namespace>_<pod>_<uid>/<container>/<restarts>.log.
type logFile struct{ namespace, pod, container, restarts string }

func (s *shipper) parse(name string) (logFile, bool) {
	rel, err := filepath.Rel(s.dir, name)
	if err != nil {
		return logFile{}, false
	}
	parts := strings.Split(rel, string(filepath.Separator))
	if len(parts) != 3 {
		return logFile{}, false
	}
	id := strings.Split(parts[0], "_")
	if len(id) != 3 {
		return logFile{}, false
	}
	return logFile{id[0], id[1], parts[1], strings.TrimSuffix(parts[2], ".log")}, true
}

var addressRE = regexp.MustCompile(`metrics=(127\.0\.0\.1:\d+)`)

func (s *shipper) ship(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(s.dir, "*", "*", "*.log"))
	if err != nil {
		return err
	}
	var streams []logStream
	for _, name := range files {
		f, ok := s.parse(name)
		if !ok {
			continue
		}
		values, err := s.read(name)
		if err != nil || len(values) == 0 {
			continue
		}
		streams = append(streams, logStream{map[string]string{"namespace": f.namespace, "pod": f.pod, "container": f.container, "node": s.cfg.Name}, values})
	}
	s.mu.Lock()
	for name := range s.metrics {
		if _, err := os.Stat(name); err != nil {
			delete(s.metrics, name)
		}
	}
	loki, tenant := s.cfg.Loki, s.cfg.Tenant
	s.mu.Unlock()
	if loki == nil || len(streams) == 0 {
		return nil
	}
	return loki.push(ctx, tenant, streams)
}

// read is what has been added to a file, without a last line that is not
// finished.
func (s *shipper) read(name string) ([][2]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := f.Seek(s.offsets[name], io.SeekStart); err != nil {
		return nil, err
	}
	var out [][2]string
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return out, nil // the end, or the middle of a line
		}
		s.offsets[name] += int64(len(line))
		// 2026-01-02T03:04:05.678901234Z stdout F text
		parts := strings.SplitN(strings.TrimRight(line, "\n"), " ", 4)
		if len(parts) != 4 {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, parts[0])
		if err != nil {
			continue
		}
		if m := addressRE.FindStringSubmatch(parts[3]); m != nil {
			s.metrics[name] = m[1]
		}
		out = append(out, [2]string{strconv.FormatInt(at.UnixNano(), 10), parts[3]})
	}
}

// discovery answers Prometheus' HTTP service discovery: the newest container
// of each pod.
func (s *shipper) discovery(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	newest := map[string]int{}
	groups := map[string]group{}
	for name, address := range s.metrics {
		f, ok := s.parse(name)
		if !ok {
			continue
		}
		key := f.namespace + "/" + f.pod
		n, err := strconv.Atoi(f.restarts)
		if old, seen := newest[key]; err != nil || seen && old > n {
			continue
		}
		newest[key] = n
		groups[key] = group{[]string{address}, map[string]string{"namespace": f.namespace, "pod": f.pod}}
	}
	out := []group{}
	for _, g := range groups {
		out = append(out, g)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out)
}

// logStream is a stream of Loki's push API.
type logStream struct {
	Stream map[string]string `json:"stream"`
	Values [][2]string       `json:"values"` // nanoseconds, line
}

// push gives lines to a Loki.
func (s *Server) push(ctx context.Context, tenant string, streams []logStream) error {
	b, err := json.Marshal(map[string]any{"streams": streams})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/loki/api/v1/push", bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if tenant != "" {
		req.Header.Set("X-Scope-OrgID", tenant)
	}
	res, err := s.Client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
		return &StatusError{res.StatusCode, http.MethodPost, "/loki/api/v1/push", string(text)}
	}
	return nil
}
