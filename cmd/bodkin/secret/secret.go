// Package secret finds the secrets that a way asks for: passwords, and answers to
// challenges. None of them stands in an argument or is ever printed.
//
// Where from is said by the user, a source for each place that asks or one for all:
//
//	@FILE          the file's text, one line end at its end taken off
//	env:NAME       an environment variable
//	run:COMMAND    what a command prints when it is asked, for one-time passwords
//	ask            the user, on the terminal or by SSH_ASKPASS; what counts without a word
//
// It knows nothing of what asks.
package secret

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/chat"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

const (
	// maxSecret bounds a secret, in octets: longer than any that a person or a token has.
	maxSecret = 4096

	// commandTimeout is how long a command may take to answer: time for somebody to
	// touch a token.
	commandTimeout = 2 * time.Minute
)

// A source is where the secrets of one place come from.
type source struct {
	place string // empty: of all places without one of their own
	kind  string // "@", "env:", "run:", "ask", or "is" for the secret itself
	value string
}

// Sources are where secrets come from. The zero value asks the user.
type Sources struct {
	list      []source
	variables []string // of the environment, that hold secrets of Set

	mu    sync.Mutex
	given map[[2]string]string // what the user answered, by place and question: for dialling again
	used  map[[3]string]bool   // what was good for once, by place, question and source: never again
}

// Parse reads sources as users write them: [PLACE=]SOURCE.
func Parse(values []string) (*Sources, error) {
	s := &Sources{given: map[[2]string]string{}, used: map[[3]string]bool{}}
	for i, v := range values {
		src, ok := parseSource(v)
		if !ok {
			place, rest, _ := strings.Cut(v, "=")
			src, ok = parseSource(rest)
			src.place = place
		}
		if !ok || strings.Contains(v, "=") && src.place == "" && src.kind == "ask" {
			// What was written may be a password: it is not repeated.
			return nil, report.WithHint(report.Usage(fmt.Errorf("--password number %d says no source", i+1)),
				"write @FILE, env:NAME, run:COMMAND or ask, with PLACE= before it if several places ask, as in me@proxy=@/home/me/.proxy-password")
		}
		s.list = append(s.list, src)
	}
	return s, nil
}

// Set gives the secret of a place that has no source of its own, and the variables of
// the environment that hold it.
func (s *Sources) Set(place, value string, variables ...string) {
	s.list = append(s.list, source{place: place, kind: "is", value: value})
	s.variables = append(s.variables, variables...)
}

// Own takes the secrets that are in the environment out of it, so that no program that
// is started from then on is given them.
func (s *Sources) Own() {
	for i, src := range s.list {
		if value, ok := os.LookupEnv(src.value); ok && src.kind == "env:" {
			s.list[i].kind, s.list[i].value = "is", value
			s.variables = append(s.variables, src.value)
		}
	}
	for _, name := range s.variables {
		os.Unsetenv(name)
	}
}

func parseSource(v string) (source, bool) {
	for _, kind := range []string{"@", "env:", "run:"} {
		if value, ok := strings.CutPrefix(v, kind); ok && value != "" {
			return source{kind: kind, value: value}, true
		}
	}
	return source{kind: "ask"}, v == "ask"
}

// For returns what answers the questions of a place, such as "me@proxy". The
// question is what the place says, and printable.
func (s *Sources) For(place string) func(ctx context.Context, question string) (string, error) {
	src := source{kind: "ask"}
	for _, candidate := range s.list {
		_, host, _ := strings.Cut(place, "@")
		if candidate.place == place || candidate.place == host && host != "" {
			src = candidate
			break
		}
		if candidate.place == "" {
			src = candidate
		}
	}
	return func(ctx context.Context, question string) (string, error) {
		secret, err := s.find(ctx, src, place, question)
		switch {
		case err != nil:
			return "", fmt.Errorf("the secret for %s: %w", place, err)
		case len(secret) > maxSecret || strings.ContainsAny(secret, "\r\n\x00"):
			return "", fmt.Errorf("the secret for %s: not one line of at most %d octets", place, maxSecret)
		}
		return secret, nil
	}
}

func (s *Sources) find(ctx context.Context, src source, place, question string) (string, error) {
	once := chat.AsksOnce(question)
	if once && src.kind != "run:" && src.kind != "ask" && s.isUsed(place, question, src.kind+src.value) {
		return "", &carrier.RefusedError{
			Layer: "login", Reason: "it wants another one-time password, and the one that was given has been used: " + carrier.Printable(question),
			Hint: "--password run:COMMAND asks a command for a new one each time",
		}
	}
	switch src.kind {
	case "is":
		return src.value, nil
	case "@":
		return fromFile(src.value)
	case "env:":
		secret, ok := os.LookupEnv(src.value)
		if !ok {
			return "", fmt.Errorf("no environment variable %s", src.value)
		}
		return secret, nil
	case "run:":
		return fromCommand(ctx, src.value, place, question)
	}
	s.mu.Lock()
	defer s.mu.Unlock() // one question at a time
	key := [2]string{place, question}
	if secret, ok := s.given[key]; ok {
		return secret, nil
	}
	secret, err := Ask(ctx, place+": "+strings.TrimRight(carrier.Printable(question), ": "))
	if err == nil && s.given != nil && !once {
		s.given[key] = secret
	}
	return secret, err
}

// isUsed reports whether a question that wants a new answer each time was answered by a
// source before, and notes that it was.
func (s *Sources) isUsed(place, question, source string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := [3]string{place, question, source}
	was := s.used[key]
	if s.used != nil {
		s.used[key] = true
	}
	return was
}

// fromFile reads a file that nobody else may read, or a pipe.
func fromFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", report.WithHint(err, "--password [PLACE=]@FILE names a file that you may read")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		return "", report.WithHint(fmt.Errorf("%s: others may read it", path), "chmod 600 "+path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+2))
	return strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r"), err
}

// fromCommand runs a command line of the user's, which finds the question in its
// environment, and returns the first line that it prints.
func fromCommand(ctx context.Context, line, place, question string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.Env = append(os.Environ(), "BODKIN_PLACE="+place, "BODKIN_QUESTION="+question)
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	text, err := io.ReadAll(io.LimitReader(out, maxSecret+2))
	if ended := cmd.Wait(); ended != nil {
		err = fmt.Errorf("%q: %w", line, ended)
	}
	first, _, _ := bytes.Cut(text, []byte("\n"))
	return strings.TrimSuffix(string(first), "\r"), err
}
