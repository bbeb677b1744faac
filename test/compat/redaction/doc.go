// Package compat holds redaction against what gitleaks' rules look for.
package compat
