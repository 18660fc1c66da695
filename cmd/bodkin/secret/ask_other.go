//go:build !linux

package secret

import (
	"context"
	"os"

	"golang.org/x/term"
)

// askTerminal asks on standard input. It does not end before its answer.
func askTerminal(_ context.Context, question string) (string, error) {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return "", errNobody
	}
	os.Stderr.WriteString(question)
	secret, err := term.ReadPassword(fd)
	os.Stderr.WriteString("\n")
	return string(secret), err
}
