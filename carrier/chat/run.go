package chat

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// Run follows the script on st and returns the Stream that begins with the octet after
// the last one that was waited for, whole: bit 7 is cleared for comparing only.
//
// After an error, for which ExitCode has chat(8)'s number, st is closed. ctx bounds the
// call, not the Stream.
func (s *Script) Run(ctx context.Context, st carrier.Stream, o Options) (carrier.Stream, error) {
	r := &run{o: o, in: newTap(st), timeout: o.Timeout, echo: o.EchoOn}
	if r.timeout <= 0 {
		r.timeout = DefaultTimeout
	}
	r.watchers = [2]watcher{{w: o.Echo}, {w: o.Verbose}}
	err := r.steps(ctx, s.steps)
	r.endReport()
	r.watchers[0].endLine() // and the other not, as chat(8) does
	if err != nil {
		var abort *AbortError
		if errors.As(err, &abort) {
			r.log("Failed (%s)", abort.Text)
		} else {
			r.log("Failed")
		}
		r.in.close()
		return carrier.Stream{}, err
	}
	return r.in.handOn(r.rest), nil
}

// A run is a script that is followed.
type run struct {
	o       Options
	in      *tap
	rest    []byte // what was read and is not heard yet
	timeout time.Duration

	aborts   []string
	reports  []string
	reported []bool // by index in reports
	gathered []byte // the line of a report; nil if none

	echo     bool
	watchers [2]watcher // of Echo, of Verbose
	line     []byte     // what came, for the log
	secrets  []string   // what was typed and must not be in the log, visibly

	groups []string // of the last MATCH, printable
}

func (r *run) steps(ctx context.Context, steps []step) error {
	for i := range steps {
		s := &steps[i]
		var err error
		if s.keyword != "" {
			if s.whole {
				err = r.obey(ctx, s)
			}
		} else if err = r.expect(ctx, s.parts); err == nil && s.whole {
			err = r.send(ctx, s.word)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// expect waits for the first of the parts; when that does not come it sends the second
// and waits for the third, and so on. An ABORT is final.
func (r *run) expect(ctx context.Context, parts []string) error {
	for len(parts) > 0 {
		want, _ := r.o.unescape(parts[0], false)
		if len(want) > maxExpect {
			return &codedError{codeScript, fmt.Errorf("%s: more than %d octets to expect", quoted(want), maxExpect)}
		}
		err := r.await(ctx, &wait{what: visible(want), want: []byte(want)})
		if err == nil || len(parts) == 1 || ExitCode(err) != codeSilence {
			return err
		}
		if err := r.send(ctx, parts[1]); err != nil {
			return err
		}
		parts = parts[2:]
	}
	return nil
}

// send types a word.
func (r *run) send(ctx context.Context, word string) error {
	secret := false
	if name := strings.TrimLeft(strings.TrimPrefix(word, "@"), " \t"); strings.HasPrefix(word, "@") && name != "" {
		text, err := r.o.secretFile(ctx, name)
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			return &codedError{codeScript, err}
		}
		word, secret = text, true
	}
	switch word {
	case "EOT":
		word = `^D\c`
	case "BREAK":
		word = `\K\c`
	}
	text, hidden := r.o.unescape(word, true)
	return r.typeText(ctx, text, nil, hidden || secret)
}

// obey does what a keyword says.
func (r *run) obey(ctx context.Context, s *step) error {
	switch s.keyword {
	case kwAbort:
		return r.add(&r.aborts, s)
	case kwReport:
		if err := r.add(&r.reports, s); err != nil {
			return err
		}
		r.reported = append(r.reported, false)
	case kwClearAbort:
		return r.remove(&r.aborts, nil, s)
	case kwClearReport:
		return r.remove(&r.reports, &r.reported, s)
	case kwTimeout:
		text, _ := r.o.unescape(s.word, false)
		r.timeout = timeoutOf(text)
		r.log("timeout set to %d seconds", r.timeout/time.Second)
	case kwEcho:
		r.echo = s.word == "ON"
	case kwHangUp:
		if r.o.HangUp != nil {
			r.o.HangUp(s.word != "OFF")
		}
	case kwSay:
		text, _ := r.o.unescape(s.word, true) // with a CR, as chat(8) does
		text, _, _ = strings.Cut(text, "\x00")
		if r.o.Say != nil {
			fmt.Fprint(r.o.Say, text)
		}
	case kwMatch:
		return r.match(ctx, s.re)
	case kwReply:
		text, hidden := r.o.unescape(s.word, true)
		return r.typeText(ctx, text, r.groups, hidden)
	case kwAsk:
		return r.ask(ctx, s.word)
	}
	return nil
}

// timeoutOf reads the number of a TIMEOUT, in seconds, as atoi(3) does.
func timeoutOf(text string) time.Duration {
	text = strings.TrimLeft(text, " \t\n\v\f\r")
	end := 0
	for end < len(text) && ('0' <= text[end] && text[end] <= '9' || end == 0 && text[end] == '+') {
		end++
	}
	const most = 1 << 31 / 2 // seconds, 34 years
	n, err := strconv.Atoi(text[:end])
	switch {
	case errors.Is(err, strconv.ErrRange), n > most:
		n = most
	case err != nil, n <= 0:
		return DefaultTimeout
	}
	return time.Duration(n) * time.Second
}

// stringOf returns the string of an ABORT or a REPORT, and of their CLR_.
func (r *run) stringOf(s *step) (string, error) {
	text, _ := r.o.unescape(s.word, false)
	if len(text) > maxAbort {
		return "", &codedError{codeScript, fmt.Errorf("%s %s: more than %d octets", s.keyword, quoted(text), maxAbort)}
	}
	return text, nil
}

func (r *run) add(list *[]string, s *step) error {
	if len(*list) >= maxAborts {
		return &codedError{codeFatal, fmt.Errorf("more than %d strings of %s", maxAborts, s.keyword)}
	}
	text, err := r.stringOf(s)
	if err != nil {
		return err
	}
	*list = append(*list, text)
	r.log("%s on (%s)", strings.ToLower(s.keyword), visible(text))
	return nil
}

// remove takes a string out of a list; those behind it move up.
func (r *run) remove(list *[]string, fired *[]bool, s *step) error {
	text, err := r.stringOf(s)
	if err != nil {
		return err
	}
	// chat(8) counts those that stay while it looks, and so does not look at as many of
	// the last as it has taken out. Scripts cannot tell, but exit codes can.
	var gone []int
	for i := 0; i < len(*list)-len(gone); i++ {
		if (*list)[i] == text && (fired == nil || !(*fired)[i]) {
			gone = append(gone, i)
			r.log("clear %s on (%s)", strings.ToLower(strings.TrimPrefix(s.keyword, "CLR_")), visible(text))
		}
	}
	for _, i := range slices.Backward(gone) {
		*list = slices.Delete(*list, i, i+1)
		if fired != nil {
			*fired = slices.Delete(*fired, i, i+1)
		}
	}
	return nil
}

// match waits for a regular expression, and keeps its groups.
func (r *run) match(ctx context.Context, p *pattern) error {
	w := &wait{what: visible(p.expr), re: newSearch(p)}
	if err := r.await(ctx, w); err != nil {
		return err
	}
	r.groups = nil
	for _, g := range p.groups(w.tail[max(0, len(w.tail)-window):]) {
		r.groups = append(r.groups, carrier.Printable(string(g[:min(len(g), maxCapture)])))
	}
	return nil
}

// ask types what somebody answers.
func (r *run) ask(ctx context.Context, question string) error {
	question = reference.ReplaceAllStringFunc(question, func(ref string) string { return r.group(ref) })
	if r.o.Answer == nil {
		return &codedError{codeScript, fmt.Errorf("ASK %s: there is nobody to ask", quoted(question))}
	}
	r.log("ask (%s)", r.masked(visible(question)))
	answer, err := r.o.Answer(ctx, question)
	if err != nil {
		return fmt.Errorf("chat: ASK %s: %w", quoted(question), err)
	}
	answer, err = oneLine(answer)
	if err != nil {
		return &codedError{codeFatal, fmt.Errorf("ASK %s: %w", quoted(question), err)}
	}
	return r.typeText(ctx, strings.ReplaceAll(answer, `\`, `\\`)+"\r", nil, true)
}

// oneLine returns an answer that was meant to be typed as one line, without its end.
func oneLine(answer string) (string, error) {
	answer = strings.TrimSuffix(strings.TrimSuffix(answer, "\n"), "\r")
	if strings.ContainsFunc(answer, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
		return "", errors.New("the answer has a control character in it")
	}
	return answer, nil
}

// group returns the group of the last MATCH that {n} stands for; nothing if it has none.
func (r *run) group(ref string) string {
	n, err := strconv.Atoi(strings.Trim(ref, "{}"))
	if err != nil || n >= len(r.groups) {
		return ""
	}
	return r.groups[n]
}

// The pauses of \d and \p. The manual of chat(8) says 0.1 s of the second, its program
// waits 0.01 s; ours is the manual's.
const (
	longPause  = time.Second
	shortPause = time.Second / 10
)

// typeText types text with escapes in it. If groups is not nil, {n} is one of them.
// Each piece between two pauses must be taken within the timeout.
func (r *run) typeText(ctx context.Context, text string, groups []string, hidden bool) error {
	var piece []byte
	flush := func() error {
		err := r.write(ctx, piece)
		piece = piece[:0]
		return err
	}
	if hidden {
		r.hide(text)
		r.log("send (??????)")
	} else {
		r.log("send (%s)", r.masked(visible(text)))
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '{' && groups != nil {
			if at := reference.FindStringIndex(text[i:]); at != nil && at[0] == 0 {
				piece = append(piece, r.group(text[i:i+at[1]])...)
				i += at[1] - 1
				continue
			}
		}
		if c != escape {
			piece = append(piece, c)
			continue
		}
		if i++; i == len(text) {
			break
		}
		var pause time.Duration
		switch c = text[i]; c {
		case 'd':
			pause = longPause
		case 'p':
			pause = shortPause
		case 'K':
		default:
			piece = append(piece, c)
			continue
		}
		if err := flush(); err != nil {
			return err
		}
		if c == 'K' {
			if err := r.in.Break(); err != nil {
				r.log("break: %s", visible(err.Error()))
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	return flush()
}

// write writes octets, at the typist's speed.
func (r *run) write(ctx context.Context, octets []byte) error {
	size := len(octets)
	if r.o.TypeDelay > 0 {
		size = 1
	}
	for part := range slices.Chunk(octets, max(size, 1)) {
		if err := sleep(ctx, r.o.TypeDelay); err != nil {
			return err
		}
		err := r.in.write(ctx, part, r.timeout)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return err
		case errors.Is(err, errSilence):
			return &codedError{codeScript, fmt.Errorf("what is typed is not taken for %v", r.timeout)}
		default:
			return &codedError{codeScript, fmt.Errorf("typing: %w", err)}
		}
	}
	return nil
}

// sleep lets time pass that the script, or a slow peer, asks for.
func sleep(ctx context.Context, pause time.Duration) error {
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
