package reasoner

import (
	"context"
	"errors"
	"math"

	openai "github.com/sashabaranov/go-openai"

	"github.com/oncall-copilot/oncall/pkg/ask"
)

// talker is an OpenAI-compatible endpoint that may call tools.
type talker struct{ m *openAI }

var _ ask.Model = talker{}

// NewChat makes a client of the same endpoint as [NewOpenAI], with the same key
// and the same bounds, for a conversation with tools. It is not asked anything
// yet.
func NewChat(cfg ModelConfig) ask.Model { return talker{NewOpenAI(cfg).(*openAI)} }

// Name is the configured name.
func (c talker) Name() string { return c.m.Name() }

// Turn sends the conversation, and returns what the model says or wants called.
func (c talker) Turn(ctx context.Context, t ask.Talk) (ask.Reply, error) {
	r := openai.ChatCompletionRequest{Model: c.m.cfg.Name}
	if reasons(c.m.cfg.Name) {
		r.MaxCompletionTokens = t.MaxTokens // they take no temperature
	} else {
		r.MaxTokens = t.MaxTokens //nolint:staticcheck // most servers that speak this protocol know no other name
		// Zero is left out of the request, and would mean the server's default.
		r.Temperature = math.SmallestNonzeroFloat32
	}
	size := 0
	for _, m := range t.Messages {
		out := openai.ChatCompletionMessage{Role: m.Role, Content: m.Text, ToolCallID: m.Call}
		for _, call := range m.Calls {
			out.ToolCalls = append(out.ToolCalls, openai.ToolCall{ID: call.ID, Type: openai.ToolTypeFunction, Function: openai.FunctionCall{Name: call.Name, Arguments: call.Arguments}})
		}
		r.Messages = append(r.Messages, out)
		size += estimate(m.Text)
	}
	for _, s := range t.Tools {
		r.Tools = append(r.Tools, openai.Tool{Type: openai.ToolTypeFunction, Function: &openai.FunctionDefinition{Name: s.Name, Description: s.Doc, Parameters: s.Schema}})
	}
	resp, err := c.m.client.CreateChatCompletion(ctx, r)
	if err != nil {
		return ask.Reply{}, err
	}
	if len(resp.Choices) == 0 {
		return ask.Reply{}, errors.New("the answer has no choices")
	}
	said := resp.Choices[0]
	out := ask.Reply{Text: said.Message.Content, Tokens: resp.Usage.TotalTokens}
	if out.Tokens <= 0 {
		out.Tokens = size + estimate(out.Text) // a server that does not count
	}
	if said.Message.Refusal != "" || said.FinishReason == openai.FinishReasonContentFilter {
		return out, errRefused
	}
	for _, call := range said.Message.ToolCalls {
		out.Calls = append(out.Calls, ask.Call{ID: call.ID, Name: call.Function.Name, Arguments: call.Function.Arguments})
	}
	return out, nil
}
