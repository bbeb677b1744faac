package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncall-copilot/oncall/pkg/bus"
	"github.com/oncall-copilot/oncall/pkg/event"
	"github.com/oncall-copilot/oncall/pkg/render"
	"github.com/oncall-copilot/oncall/pkg/service"
)

// deadLetter is a dead letter as dlq ls writes it.
type deadLetter struct {
	Sequence uint64 `json:"sequence"`                  // in the dead-letter stream, as show and redrive take it
	Of       uint64 `json:"stream_sequence,omitempty"` // of the message in the stream that it came from
	event.DeadLetter
}

func newDLQ(o *options) *cobra.Command {
	c := &cobra.Command{Use: "dlq", Short: "Messages that could not be processed, with the reason."}
	c.AddCommand(
		&cobra.Command{
			Use: "ls", Short: "List the dead letters, oldest first.", Args: exactArgs(0, "no arguments"),
			RunE: func(cmd *cobra.Command, _ []string) error {
				h, err := o.open(cmd.Context())
				if err != nil {
					return err
				}
				defer func() { _ = h.Close() }()
				ls, err := h.Bus.Letters(cmd.Context())
				if err != nil {
					return err
				}
				var rows [][]string
				all := []deadLetter{}
				for _, l := range ls {
					all = append(all, deadLetter{l.Sequence, l.DeadLetter.Sequence, l.DeadLetter})
					rows = append(rows, []string{strconv.FormatUint(l.Sequence, 10), l.Time.UTC().Format(time.RFC3339), l.Stream, l.Consumer, l.Subject, l.Reason})
				}
				if len(rows) == 0 && o.format() == render.Table {
					fmt.Fprintln(cmd.ErrOrStderr(), "oncall: no dead letters")
				}
				return o.list(all, []string{"seq", "time", "stream", "consumer", "subject", "reason"}, rows)
			},
		},
		letterCommand(o, "show SEQ", "Show one dead letter with its headers and payload.", func(cmd *cobra.Command, b *bus.Bus, l bus.Letter) error {
			f := o.format()
			if f == render.Table {
				f = render.YAML
			}
			if err := render.Value(o.out, f, l.DeadLetter); err != nil {
				return err
			}
			if o.format() == render.Table {
				fmt.Fprintf(o.out, "payload_text: %q\n", l.Payload[:min(len(l.Payload), 4096)])
			}
			return nil
		}),
		letterCommand(o, "redrive SEQ", "Send one dead letter back where it came from, and remove it.", func(cmd *cobra.Command, b *bus.Bus, l bus.Letter) error {
			if err := b.Redrive(cmd.Context(), l); err != nil {
				return err
			}
			fmt.Fprintf(o.out, "redriven to %s\n", render.Plain(l.Subject))
			return nil
		}),
	)
	return c
}

func letterCommand(o *options, use, short string, f func(*cobra.Command, *bus.Bus, bus.Letter) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: exactArgs(1, "the number of a dead letter, as oncall dlq ls prints it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			seq, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return &service.UsageError{Err: fmt.Errorf("%q is not the number of a dead letter", args[0])}
			}
			h, err := o.open(cmd.Context())
			if err != nil {
				return err
			}
			defer func() { _ = h.Close() }()
			l, err := h.Bus.Letter(cmd.Context(), seq)
			if err != nil {
				return hint(err, service.ExitUsage, "oncall dlq ls")
			}
			return f(cmd, h.Bus, l)
		},
	}
}
