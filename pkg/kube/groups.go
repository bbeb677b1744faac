package kube

import "context"

// Groups are the API groups that the cluster serves beside the core, each with the
// version that it prefers: apps → v1. Those of custom resources are among them.
func (c *Client) Groups(ctx context.Context) (map[string]string, error) {
	var list struct {
		Groups []struct {
			Name             string `json:"name"`
			PreferredVersion struct {
				Version string `json:"version"`
			} `json:"preferredVersion"`
		} `json:"groups"`
	}
	if err := c.Get(ctx, "/apis", nil, &list); err != nil {
		return nil, err
	}
	out := make(map[string]string, len(list.Groups))
	for _, g := range list.Groups {
		out[g.Name] = g.PreferredVersion.Version
	}
	return out, nil
}
