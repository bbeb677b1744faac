package reasoner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	openai "github.com/sashabaranov/go-openai"
)

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 256 << 10

// openAI is any server that speaks OpenAI's chat completions.
type openAI struct {
	cfg    ModelConfig
	client *openai.Client
	// formats counts how many of the ways to ask for JSON the server has refused.
	formats atomic.Int32
}

var _ Model = (*openAI)(nil)

// NewOpenAI makes a client of an OpenAI-compatible endpoint. It is not asked
// anything yet.
func NewOpenAI(cfg ModelConfig) Model {
	c := openai.DefaultConfig("")
	c.BaseURL = strings.TrimRight(cfg.URL, "/")
	c.HTTPClient = &http.Client{
		Transport: &keyed{file: cfg.APIKeyFile, next: http.DefaultTransport},
		// The key and the data go where the configuration says, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the server redirects; configure the address it names")
		},
	}
	return &openAI{cfg: cfg, client: openai.NewClientWithConfig(c)}
}

// KeyVariable is the environment variable that holds the key where no file is
// configured.
const KeyVariable = "ONCALL_MODEL_KEY"

// keyed adds the key, and bounds answers.
type keyed struct {
	file string
	next http.RoundTripper
}

func (k *keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	key := os.Getenv(KeyVariable)
	if k.file != "" {
		b, err := os.ReadFile(k.file)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		key = string(b)
	}
	if key = strings.TrimSpace(key); key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := k.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}

// Name is the configured name.
func (m *openAI) Name() string { return m.cfg.Name }

// errRefused says that a model would not answer.
var errRefused = errors.New("the model refuses to answer")

// Complete asks for an answer by the schema; a server that does not know
// schemas is asked for JSON, and one that does not know that either for text.
func (m *openAI) Complete(ctx context.Context, p Prompt) (Completion, error) {
	for {
		way := m.formats.Load()
		resp, err := m.client.CreateChatCompletion(ctx, m.request(p, way))
		if err != nil {
			if way < 2 && formatRefused(err) {
				m.formats.CompareAndSwap(way, way+1)
				continue
			}
			return Completion{}, err
		}
		if len(resp.Choices) == 0 {
			return Completion{}, errors.New("the answer has no choices")
		}
		c := resp.Choices[0]
		out := Completion{Text: c.Message.Content, Tokens: resp.Usage.TotalTokens}
		if out.Tokens <= 0 {
			out.Tokens = estimate(p.System+p.User) + estimate(out.Text) // a server that does not count
		}
		if c.Message.Refusal != "" || c.FinishReason == openai.FinishReasonContentFilter {
			return out, errRefused
		}
		return out, nil
	}
}

// formatRefused says whether a request was refused for the format that it asks
// for.
func formatRefused(err error) bool {
	var api *openai.APIError
	var req *openai.RequestError
	switch {
	case errors.As(err, &api):
		low := strings.ToLower(api.Message)
		return (api.HTTPStatusCode == 400 || api.HTTPStatusCode == 422) && (strings.Contains(low, "response_format") || strings.Contains(low, "json_schema") || strings.Contains(low, "schema"))
	case errors.As(err, &req):
		low := strings.ToLower(string(req.Body))
		return (req.HTTPStatusCode == 400 || req.HTTPStatusCode == 422) && strings.Contains(low, "response_format")
	}
	return false
}

func (m *openAI) request(p Prompt, way int32) openai.ChatCompletionRequest {
	r := openai.ChatCompletionRequest{
		Model: m.cfg.Name,
		Messages: []openai.ChatCompletionMessage{
			{Role: openai.ChatMessageRoleSystem, Content: p.System},
			{Role: openai.ChatMessageRoleUser, Content: p.User},
		},
	}
	if reasons(m.cfg.Name) {
		r.MaxCompletionTokens = p.MaxTokens // they take no temperature
	} else {
		r.MaxTokens = p.MaxTokens //nolint:staticcheck // most servers that speak this protocol know no other name
		// Zero is left out of the request, and would mean the server's default.
		r.Temperature = math.SmallestNonzeroFloat32
	}
	switch way {
	case 0:
		r.ResponseFormat = &openai.ChatCompletionResponseFormat{
			Type:       openai.ChatCompletionResponseFormatTypeJSONSchema,
			JSONSchema: &openai.ChatCompletionResponseFormatJSONSchema{Name: "report", Schema: json.RawMessage(p.Schema), Strict: true},
		}
	case 1:
		r.ResponseFormat = &openai.ChatCompletionResponseFormat{Type: openai.ChatCompletionResponseFormatTypeJSONObject}
	}
	return r
}

// reasons says whether a model is one of OpenAI's that think before they
// answer, and take other parameters.
func reasons(name string) bool {
	for _, p := range []string{"o1", "o3", "o4", "gpt-5"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// estimate is about how many tokens a text is.
func estimate(s string) int { return len(s)/3 + 1 }
