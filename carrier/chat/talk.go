package chat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	// maxTalk is how much a host may say before it asks anything, in octets: far more
	// than the longest message of the day that we know of, of 64 KiB.
	maxTalk = 4 << 20

	// maxWords is how many of the last lines that came an error looks at.
	maxWords = 8
)

// A talk is a dialogue with a host or a proxy that prints lines and prompts.
type talk struct {
	in       *tap
	layer    string // whose it is, for errors: "login", "proxy"
	peer     string // and for people: "the host", "the proxy"
	patience time.Duration
	banner   func(line string)
	logf     func(line string)

	rest   []byte // what was read and is not on the screen yet
	screen screen
	came   int      // octets
	words  []string // the last lines that came, printable
	echo   string   // what we typed last, which may come back
	ours   string   // what no line of the peer's own has in it; may be empty
	hidden []string // secrets that we typed: masked where they come back
}

// defaultSilence is how long nothing may come, unless the caller says otherwise.
const defaultSilence = 60 * time.Second

func newTalk(st carrier.Stream, layer, peer string, silence time.Duration, banner, log func(string)) *talk {
	if silence <= 0 {
		silence = defaultSilence
	}
	return &talk{in: newTap(st), layer: layer, peer: peer, patience: silence, banner: banner, logf: log}
}

// more waits for the next octets, which are in t.rest then. waiting says what for.
func (t *talk) more(ctx context.Context, waiting string) error {
	if t.came > maxTalk {
		return t.refused(fmt.Sprintf("waiting for %s: more than %d octets came", waiting, maxTalk), "see what it says with `bodkin pipe`, and write a chat script")
	}
	octets, err := t.in.next(ctx, t.patience)
	t.rest = octets
	t.came += len(octets)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errSilence):
		return &carrier.SilenceError{Layer: t.layer,
			Reason: fmt.Sprintf("waiting for %s: %s is silent for %v; %s", waiting, t.peer, t.patience, t.soFar()),
			Hint:   "if it asks for something else, write a chat script"}
	case ctx.Err() != nil:
		return err
	}
	how := t.peer + " closed the connection"
	if !errors.Is(err, io.EOF) {
		how = carrier.Printable(err.Error())
	}
	return &carrier.HangUpError{Layer: t.layer, Reason: fmt.Sprintf("waiting for %s: %s; %s", waiting, how, t.soFar()), Err: err}
}

// hear puts the next octet on the screen. A line that it ends is returned, printable.
func (t *talk) hear() (line string, whole bool) {
	octet := t.rest[0]
	t.rest = t.rest[1:]
	text, whole := t.screen.put(octet)
	if !whole {
		return "", false
	}
	line = t.readable(text)
	t.note(line)
	return line, true
}

// readable returns a line as it may be shown.
func (t *talk) readable(text []byte) string {
	line := carrier.Printable(string(text))
	for _, secret := range t.hidden {
		line = strings.ReplaceAll(line, secret, mask)
	}
	return line
}

// isEcho reports whether a line is not the peer's, but ours come back.
func (t *talk) isEcho(line string) bool {
	return line == t.echo || t.ours != "" && strings.Contains(line, t.ours)
}

// note keeps a line, and shows it, unless it is empty or an echo of ours.
func (t *talk) note(line string) {
	if line == "" || t.isEcho(line) {
		return
	}
	if len(t.words) == maxWords {
		t.words = append(t.words[:0], t.words[1:]...)
	}
	t.words = append(t.words, line)
	if t.banner != nil {
		t.banner(line)
	}
}

// prompt returns the unfinished line, printable, with the blank at its end.
func (t *talk) prompt() string {
	text := string(t.screen.line)
	blank := ""
	if strings.HasSuffix(text, " ") {
		blank = " "
	}
	return carrier.Printable(text) + blank
}

// soFar tells of what came, for an error.
func (t *talk) soFar() string {
	if t.came == 0 {
		return "nothing came"
	}
	last := t.lastWords()
	if last == "" {
		return fmt.Sprintf("%d octets came", t.came)
	}
	return fmt.Sprintf("%d octets came, the last words %s", t.came, said(last))
}

// lastWords returns the last line that is not an echo of ours, finished or not.
func (t *talk) lastWords() string {
	line := t.readable(t.screen.line)
	if (line == "" || t.isEcho(line)) && len(t.words) > 0 {
		return t.words[len(t.words)-1]
	}
	return line
}

// answer types a line at a prompt, whose own echo is the next thing to come. The
// prompt's line is over for us, also if no line end comes.
func (t *talk) answer(ctx context.Context, text string, secret bool) error {
	shown := text
	if secret {
		shown = mask
	}
	t.log("at %q typing %q", t.prompt(), shown)
	t.screen.forget()
	t.echo = carrier.Printable(shown)
	if secret && text != "" {
		t.hidden = append(t.hidden, carrier.Printable(text))
	}
	err := t.in.write(ctx, []byte(text+"\r"), t.patience)
	switch {
	case err == nil, ctx.Err() != nil:
		return err
	case errors.Is(err, errSilence):
		return &carrier.SilenceError{Layer: t.layer, Reason: fmt.Sprintf("%s takes nothing for %v", t.peer, t.patience)}
	}
	return &carrier.HangUpError{Layer: t.layer, Reason: "typing: " + carrier.Printable(err.Error()), Err: err}
}

func (t *talk) log(format string, args ...any) {
	if t.logf != nil {
		t.logf(fmt.Sprintf(format, args...))
	}
}

func (t *talk) refused(reason, hint string) error {
	return &carrier.RefusedError{Layer: t.layer, Reason: reason, Hint: hint}
}

// A secretFunc is somebody who knows the answer to a host's question.
type secretFunc = func(ctx context.Context, question string) (string, error)

// askFor asks for a secret and types it. whose begins the question.
func (t *talk) askFor(ctx context.Context, whose, question string, secret secretFunc) error {
	if secret == nil {
		return t.refused(fmt.Sprintf("%s asks %s, and there is nobody to ask", t.peer, said(question)), "")
	}
	t.log("asking %q", whose+question)
	text, err := secret(ctx, whose+question)
	if err != nil {
		return fmt.Errorf("%s: asking for %s: %w", t.layer, said(question), err)
	}
	if text, err = oneLine(text); err != nil {
		return fmt.Errorf("%s: asking for %s: %w", t.layer, said(question), err)
	}
	return t.answer(ctx, text, true)
}

// said returns a line of the peer's, or one that is typed, for an error: printable, in
// quotes, and the beginning of it if it is long.
func said(line string) string {
	const most = 160
	line = carrier.Printable(line)
	if len(line) > most {
		line = carrier.Printable(line[:most]) + "..."
	}
	return strconv.Quote(line)
}
