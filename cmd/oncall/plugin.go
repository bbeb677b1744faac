package main

import (
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// pluginName is what kubectl looks for when somebody types kubectl oncall.
const pluginName = "kubectl-oncall"

// asPlugin says whether the program was called by kubectl, by its name.
func asPlugin(argv0 string) bool {
	name := filepath.Base(strings.ReplaceAll(argv0, `\`, "/"))
	return strings.TrimSuffix(name, ".exe") == pluginName
}

// ourCommand is a command of ours in a text for people. A word before it, a dash
// or a slash makes it something else.
var ourCommand = regexp.MustCompile(`(^|[^\w/.-])oncall ([a-z])`)

// called writes the commands in a text as whoever called us types them.
func (o *options) called(text string) string {
	if !o.plugin {
		return text
	}
	// A command's own path says it already.
	return strings.ReplaceAll(ourCommand.ReplaceAllString(text, "${1}kubectl oncall ${2}"), "kubectl kubectl ", "kubectl ")
}

// plug has the help texts of a command and of all below it speak of kubectl
// oncall.
func (o *options) plug(root *cobra.Command) {
	if root.Annotations == nil {
		root.Annotations = map[string]string{}
	}
	root.Annotations[cobra.CommandDisplayNameAnnotation] = "kubectl oncall"
	everyCommand(root, func(c *cobra.Command) {
		c.Long, c.Short, c.Example = o.called(c.Long), o.called(c.Short), o.called(c.Example)
	})
}
