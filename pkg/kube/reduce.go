package kube

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a reduced object.
const (
	maxDepth  = 40
	maxText   = 4096 // bytes of one string
	maxAnnots = 512  // bytes of one annotation
)

// masked stands for what is not shown.
const masked = "(not shown)"

// Reduce copies an object as the API gives it (decoded JSON) without what must
// not leave the cluster: managed fields and applied configurations, values of
// environment variables, headers of probes, arguments that look like
// credentials, anything of Secrets, the contents of ConfigMaps (of which a hash
// and the keys stay), and objects whose kind speaks of Secrets, of which only
// the name stays. redact is applied to every remaining string.
func Reduce(object map[string]any, redact func(string) string) map[string]any {
	kind, _ := object["kind"].(string)
	if strings.Contains(strings.ToLower(kind), "secret") {
		out := map[string]any{"kind": kind}
		if v, ok := object["apiVersion"].(string); ok {
			out["apiVersion"] = v
		}
		if m, ok := object["metadata"].(map[string]any); ok {
			out["metadata"] = named(m)
		}
		return out
	}
	r := reducer{redact: redact}
	_, isData := object["data"].(map[string]any)
	out := map[string]any{}
	for k, v := range object {
		switch k {
		case "metadata":
			m, _ := v.(map[string]any)
			out[k] = r.metadata(m)
		case "data", "binaryData", "stringData":
			// ConfigMaps, and what is built like them.
		default:
			out[k] = r.value(k, v, 1)
		}
	}
	if isData || kind == "ConfigMap" {
		out["hash"], out["keys"] = configMapHash(object)
	}
	return out
}

func named(m map[string]any) map[string]any {
	out := map[string]any{}
	for _, k := range []string{"name", "namespace"} {
		if s, ok := m[k].(string); ok {
			out[k] = s
		}
	}
	return out
}

type reducer struct{ redact func(string) string }

func (r reducer) metadata(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		switch k {
		case "managedFields", "selfLink":
		case "annotations":
			in, _ := v.(map[string]any)
			kept := map[string]any{}
			for name, value := range in {
				text, _ := value.(string)
				if strings.Contains(name, "last-applied") || sensitive(name) || len(text) > maxAnnots {
					continue
				}
				kept[name] = r.text(text)
			}
			out[k] = kept
		default:
			out[k] = r.value(k, v, 2)
		}
	}
	return out
}

func (r reducer) value(key string, v any, depth int) any {
	if depth > maxDepth {
		return masked
	}
	switch v := v.(type) {
	case string:
		if sensitive(key) {
			return masked
		}
		return r.text(v)
	case map[string]any:
		return r.object(v, depth)
	case []any:
		switch key {
		case "env":
			return r.env(v)
		case "args", "command":
			return r.arguments(v)
		case "httpHeaders":
			return headers(v)
		}
		out := make([]any, 0, len(v))
		for _, e := range v {
			out = append(out, r.value(key, e, depth+1))
		}
		return out
	}
	return v
}

func (r reducer) object(m map[string]any, depth int) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		switch k {
		case "managedFields":
		case "secret", "secretRef", "secretKeyRef", "nodePublishSecretRef", "nodeStageSecretRef", "controllerPublishSecretRef", "controllerExpandSecretRef", "nodeExpandSecretRef", "secretName":
			out[k] = masked
		case "imagePullSecrets", "secrets":
		case "metadata":
			if mm, ok := v.(map[string]any); ok {
				out[k] = r.metadata(mm)
				continue
			}
			out[k] = r.value(k, v, depth+1)
		case "template":
			out[k] = r.value(k, v, depth+1)
		case "data", "binaryData", "stringData":
			out[k] = masked
		default:
			out[k] = r.value(k, v, depth+1)
		}
	}
	return out
}

// env keeps names, and where a value comes from when that is not a Secret.
func (r reducer) env(list []any) any {
	out := make([]any, 0, len(list))
	for _, e := range list {
		m, ok := e.(map[string]any)
		if !ok {
			continue
		}
		kept := map[string]any{}
		if name, ok := m["name"].(string); ok {
			kept["name"] = r.text(name)
		}
		if from, ok := m["valueFrom"].(map[string]any); ok {
			kept["valueFrom"] = r.object(from, 3)
		}
		out = append(out, kept)
	}
	return out
}

// arguments masks the value of a flag that names a credential, in the same
// argument or in the next.
func (r reducer) arguments(list []any) any {
	out := make([]any, 0, len(list))
	hide := false
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			continue
		}
		if hide && !strings.HasPrefix(s, "-") {
			out, hide = append(out, masked), false
			continue
		}
		hide = false
		name, _, assigned := strings.Cut(s, "=")
		flag := strings.HasPrefix(name, "-") || !strings.ContainsAny(name, " \t\n")
		switch {
		case flag && assigned && sensitive(name):
			out = append(out, name+"="+masked)
			continue
		case strings.HasPrefix(name, "-") && !assigned && sensitive(name):
			hide = true
		}
		out = append(out, r.text(s))
	}
	return out
}

func headers(list []any) any {
	out := make([]any, 0, len(list))
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			out = append(out, map[string]any{"name": m["name"], "value": masked})
		}
	}
	return out
}

func (r reducer) text(s string) string {
	if len(s) > maxText {
		cut := maxText
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return r.redact(s)
}

// sensitive says whether a name is that of a credential. Names that only speak
// of one, such as secretName or tokenExpirationSeconds, hold none; they are
// masked too where they are strings, which costs nothing.
func sensitive(name string) bool {
	n := strings.ToLower(strings.NewReplacer("-", "", "_", "", ".", "", "/", "").Replace(name))
	for _, w := range []string{"password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "privatekey", "credential", "authorization", "connectionstring", "cookie", "dsn"} {
		if strings.Contains(n, w) && n != "automountserviceaccounttoken" {
			return true
		}
	}
	return false
}

// ConfigHash is a hash over the content of a ConfigMap, whatever its order: 12
// hex digits. It is all of a ConfigMap's content that leaves the process.
func ConfigHash(data map[string]string, binary map[string][]byte) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(data)) {
		h.Write([]byte("d" + k + "\x00" + data[k] + "\x00"))
	}
	for _, k := range slices.Sorted(maps.Keys(binary)) {
		h.Write([]byte("b" + k + "\x00"))
		h.Write(binary[k])
		h.Write([]byte{0})
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

func configMapHash(object map[string]any) (string, []any) {
	data, binary := map[string]string{}, map[string][]byte{}
	if m, ok := object["data"].(map[string]any); ok {
		for k, v := range m {
			data[k], _ = v.(string)
		}
	}
	if m, ok := object["binaryData"].(map[string]any); ok {
		for k, v := range m {
			s, _ := v.(string)
			raw, err := base64.StdEncoding.DecodeString(s)
			if err != nil {
				raw = []byte(s)
			}
			binary[k] = raw
		}
	}
	var keys []any
	for _, k := range slices.Sorted(maps.Keys(data)) {
		keys = append(keys, k)
	}
	for _, k := range slices.Sorted(maps.Keys(binary)) {
		keys = append(keys, k)
	}
	return ConfigHash(data, binary), keys
}
