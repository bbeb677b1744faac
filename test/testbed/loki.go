package testbed

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

//go:embed loki.yaml
var lokiConfig string

// LokiConfig says how a Loki is reached.
type LokiConfig struct {
	// Tenants has it keep the logs of each X-Scope-OrgID apart, and refuse
	// requests without one.
	Tenants bool
	// Patterns has it mine patterns of the lines, and answer /loki/api/v1/patterns.
	Patterns bool
	// Door is put in front of it.
	Door Door
}

// StartLoki starts a Loki that keeps its data in the bed.
func (b *Bed) StartLoki(ctx context.Context, cfg LokiConfig) (*Server, error) {
	bin, err := Program(ctx, "loki", os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := b.dir("loki")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "loki.yaml")
	if err := os.WriteFile(file, []byte(lokiConfig), 0o644); err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 10 * time.Second}
	p, ports, err := b.start(ctx, command{
		name: "loki", ports: 2, limit: 2 * time.Minute,
		argv: func(ports []int) ([]string, []string, error) {
			return []string{bin, "-config.file=" + file, "-config.expand-env=true"},
				[]string{"RUN=" + dir, fmt.Sprintf("HTTP_PORT=%d", ports[0]), fmt.Sprintf("GRPC_PORT=%d", ports[1]), fmt.Sprintf("TENANTS=%v", cfg.Tenants), fmt.Sprintf("PATTERNS=%v", cfg.Patterns)}, nil
		},
		ready: func(ctx context.Context, ports []int) error {
			return answers(ctx, client, "http://"+local(ports[0])+"/ready")
		},
	})
	if err != nil {
		return nil, err
	}
	s := &Server{Process: p, Addr: local(ports[0]), URL: "http://" + local(ports[0]), Client: client}
	if !cfg.Door.Locked() {
		return s, nil
	}
	if s.URL, err = b.Guard("loki", s.URL, cfg.Door); err != nil {
		return nil, err
	}
	s.Client, err = cfg.Door.Client()
	return s, err
}
