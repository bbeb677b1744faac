package testbed

import (
	"context"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"
)

// AlertmanagerConfig says where an Alertmanager sends to.
type AlertmanagerConfig struct {
	// Webhook receives every notification; empty sends nothing.
	Webhook string
	// Token is shown to the webhook as a bearer token; empty shows none.
	Token string
	Door  Door
}

// StartAlertmanager starts an Alertmanager that notifies within a second.
func (b *Bed) StartAlertmanager(ctx context.Context, cfg AlertmanagerConfig) (*Server, error) {
	bin, err := Program(ctx, "alertmanager", os.Stderr)
	if err != nil {
		return nil, err
	}
	dir, err := b.dir("alertmanager")
	if err != nil {
		return nil, err
	}
	type object = map[string]any
	receiver := object{"name": "all"}
	if cfg.Webhook != "" {
		hook := object{"url": cfg.Webhook, "send_resolved": true}
		if cfg.Token != "" {
			hook["http_config"] = object{"authorization": object{"credentials": cfg.Token}}
		}
		receiver["webhook_configs"] = []object{hook}
	}
	text, err := yaml.Marshal(object{
		"route":     object{"receiver": "all", "group_by": []string{"..."}, "group_wait": "1s", "group_interval": "1s", "repeat_interval": "4h"},
		"receivers": []object{receiver},
	})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return nil, err
	}
	web, scheme, err := webConfig(dir, "alertmanager", cfg.Door)
	if err != nil {
		return nil, err
	}
	client, err := cfg.Door.Client()
	if err != nil {
		return nil, err
	}
	p, ports, err := b.start(ctx, command{
		name: "alertmanager", ports: 1,
		argv: func(ports []int) ([]string, []string, error) {
			argv := []string{
				bin, "--config.file=" + file, "--storage.path=" + filepath.Join(dir, "data"),
				"--web.listen-address=" + local(ports[0]), "--cluster.listen-address=", "--log.level=warn",
			}
			return append(argv, web...), nil, nil
		},
		ready: func(ctx context.Context, ports []int) error {
			return answers(ctx, client, scheme+"://"+local(ports[0])+"/-/ready")
		},
	})
	if err != nil {
		return nil, err
	}
	return &Server{Process: p, URL: scheme + "://" + local(ports[0]), Addr: local(ports[0]), Client: client, Door: cfg.Door}, nil
}
