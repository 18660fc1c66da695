package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// maxAnswer is how long an answer may be, in octets.
const maxAnswer = 1023

// answer has a program answer a question, in the manner of ssh's askpass. The question
// may be the peer's: it is printable, it is one argument, and it does not begin with a
// dash.
func (w *wish) answer(ctx context.Context, question string) (string, error) {
	program := w.askpass
	if program == "" {
		program = os.Getenv("SSH_ASKPASS")
	}
	if program == "" {
		return "", errors.New("no program to answer it: --askpass or $SSH_ASKPASS")
	}
	if len(question) > 0 && question[0] == '-' {
		question = " " + question
	}
	cmd := exec.CommandContext(ctx, program, question)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	var out answerBuffer
	cmd.Stdout = &out
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w", program, err)
	}
	line, _, _ := bytes.Cut(out.Bytes(), []byte{'\n'})
	return string(line), nil
}

// An answerBuffer takes no more than an answer may have.
type answerBuffer struct{ bytes.Buffer }

func (b *answerBuffer) Write(text []byte) (int, error) {
	if b.Len()+len(text) > maxAnswer {
		return 0, fmt.Errorf("more than %d octets of an answer", maxAnswer)
	}
	return b.Buffer.Write(text)
}
