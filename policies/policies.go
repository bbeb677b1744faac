// Package policies embeds the default policies, which a user copies and edits.
package policies

import "embed"

// FS holds the files as they lie in this folder.
//
//go:embed *.yaml all:*
var FS embed.FS
