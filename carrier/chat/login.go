package chat

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// LoginOptions is who logs in, and how.
type LoginOptions struct {
	// User is typed where the host asks for a name. If it is empty, the host is not
	// expected to ask: a shell's prompt counts from the first octet on.
	User string

	// Secret answers a question of the host's: the line that it asks with, printable,
	// and before it the line with a one-time password's challenge if there was one. That
	// of su or sudo begins with "su: " or "sudo: ". Nil if there is nobody to ask. No time limit of ours runs meanwhile.
	Secret func(ctx context.Context, question string) (string, error)

	// Become is how to become root afterwards: "", "su" or "sudo".
	Become string

	// Timeout is how long the host may be silent where we wait for it. Zero is 60 s. A
	// slow host is not a silent one.
	Timeout time.Duration

	Banner func(line string) // gets each line that the host prints, printable; may be nil
	Log    func(line string) // gets what is done, without secrets; may be nil
}

// Login logs in where a host asks for it, and returns the Stream at its shell's prompt.
// After an error st is closed.
//
// What asks for what is known from the form of the last, unfinished line, when all that
// has come is read: "gw login: ", "Password: ", "otp-md5 95 pi1234 ... Response: ". A
// line that begins the same way and goes on is mistaken for it only if the way stops in
// the very middle. Each question is answered once. A name or a password asked for
// again, for a second at least, or a line that says no, is a *carrier.RefusedError, for a second try with the
// same secret locks accounts and wastes one-time passwords; so is a password that must
// be changed. Other errors are a *carrier.HangUpError, a *carrier.SilenceError and
// those of Secret.
//
// The prompt is [$#%>] and a blank at the end of what came, after the dialogue. A
// message of the day may have one in it where the way stops. Then we are early, and that
// is safe: with the password taken, login(1) goes on to the shell without another
// question, the terminal keeps what is typed until the shell reads it, and whoever
// starts something there waits for a marker and passes over all that comes before it.
// Hence this is no proof of a shell, nor of its being root's.
//
// To become root it types one line: a marker that no echo has, then exec su or exec
// sudo -s. What asks for a password after the marker is su, and with exec there is no
// shell left to come back to if that says no.
func Login(ctx context.Context, st carrier.Stream, o LoginOptions) (carrier.Stream, error) {
	t := newTalk(st, "login", "the host", o.Timeout, o.Banner, o.Log)
	l := login{talk: t, o: o}
	err := l.check()
	if err == nil {
		err = l.untilShell(ctx, o.User == "")
	}
	if err == nil && o.Become != "" {
		err = l.become(ctx)
	}
	if err != nil {
		t.in.close()
		return carrier.Stream{}, err
	}
	return t.in.handOn(t.rest), nil
}

// A login is a dialogue with a host.
type login struct {
	*talk
	o         LoginOptions
	named     string          // the prompt where we typed the name
	asked     map[prompt]bool // questions that were answered
	challenge string          // the line with one, since the last answer
	overdue   bool            // the password must be changed
	becoming  bool            // su or sudo is what we speak with
}

func (l *login) check() error {
	if name, err := oneLine(l.o.User); err != nil || name != l.o.User || len(name) > 256 || strings.HasPrefix(name, "-") {
		return l.refused(fmt.Sprintf("the user's name %s: it cannot be typed", said(l.o.User)), "")
	}
	switch l.o.Become {
	case "", "su", "sudo":
		return nil
	}
	return l.refused(fmt.Sprintf("becoming root by %s: there are su and sudo", said(l.o.Become)), "")
}

// untilShell answers questions until there is a shell's prompt. open says that one
// counts before any question.
func (l *login) untilShell(ctx context.Context, open bool) error {
	l.asked = map[prompt]bool{}
	for {
		p := promptOf(l.prompt())
		if l.screen.ended && p != shellPrompt { // fish ends its prompt with a CR
			p = noPrompt
		}
		if wait := l.standing(p); wait > 0 {
			if more, err := l.goesOn(ctx, wait); err != nil {
				return err
			} else if more {
				continue
			}
		}
		var err error
		switch p {
		case namePrompt:
			err = l.giveName(ctx)
		case secretAsked, codeAsked:
			err = l.giveSecret(ctx, p)
		case newAsked:
			err = l.refused("the host wants a new password: "+said(l.lastWords()), "log in by hand once, to change it")
		case shellPrompt:
			if open || l.answered() {
				l.log("at %q: a shell", l.prompt())
				return nil
			}
		}
		if err == nil {
			err = l.listen(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// stays is how long a question stands before it is one that the host asks again. It costs
// those a moment whose password was wrong. settles is how long one for a secret stands
// before it is answered: many a program prints it first, and then turns echo off and
// forgets what was typed before (TCSAFLUSH in termios(3)), which no octet tells of.
const (
	stays   = time.Second
	settles = 100 * time.Millisecond
)

// standing is how long a prompt has to stand before it counts.
func (l *login) standing(p prompt) time.Duration {
	switch {
	case l.again(p):
		return stays
	case p == secretAsked, p == codeAsked:
		return settles
	}
	return 0
}

// again reports whether a question had its answer.
func (l *login) again(p prompt) bool {
	switch p {
	case namePrompt:
		return l.answered()
	case secretAsked, codeAsked:
		return l.asked[p] || l.overdue
	}
	return false
}

// goesOn reports whether more comes within d after what looks like a question, in place
// of waiting for an answer as a question does: a message of the day may have one in it,
// where the way stopped for a moment. What comes is on the screen then.
func (l *login) goesOn(ctx context.Context, d time.Duration) (bool, error) {
	octets, err := l.in.next(ctx, d)
	l.rest = octets
	l.came += len(octets)
	switch {
	case err == nil && l.came <= maxTalk:
		return true, l.hearAll()
	case ctx.Err() != nil:
		return false, err
	}
	return false, nil // it stands, or is the last that came
}

// listen takes what comes next, and finds a refusal in it.
func (l *login) listen(ctx context.Context) error {
	waiting := "a login prompt"
	if l.answered() || l.o.User == "" {
		waiting = "a shell's prompt"
	}
	err := l.more(ctx, waiting)
	if _, hungUp := err.(*carrier.HangUpError); hungUp {
		// It may not even have ended its line.
		if no := l.judge(l.readable(l.screen.line)); no != nil {
			return no
		}
	}
	if err != nil {
		return err
	}
	return l.hearAll()
}

// hearAll puts all that came on the screen.
func (l *login) hearAll() error {
	for len(l.rest) > 0 {
		line, whole := l.hear()
		if !whole {
			continue
		}
		if challengeForm.MatchString(line) {
			l.challenge = line
		}
		l.overdue = l.overdue || expired.MatchString(line)
		if err := l.judge(line); err != nil {
			return err
		}
	}
	return nil
}

// answered reports whether the host has had an answer of ours.
func (l *login) answered() bool { return l.named != "" || len(l.asked) > 0 }

// judge returns an error if a line says no to an answer of ours.
func (l *login) judge(line string) error {
	switch {
	case l.becoming && missing.MatchString(line):
		return l.refused(fmt.Sprintf("the host said %s", said(line)), "become root by another way, or not at all")
	case l.becoming && refusal.MatchString(line), l.answered() && refusal.MatchString(line):
		return l.denied(line)
	}
	return nil
}

func (l *login) denied(words string) error {
	hint := "check the name and the password; it is not tried again by itself"
	if l.overdue {
		hint = "the password must be changed: log in by hand once"
	}
	return l.refused(fmt.Sprintf("the host said %s", said(words)), hint)
}

// giveName types the name at a prompt that asks for it.
func (l *login) giveName(ctx context.Context) error {
	line := strings.TrimSpace(l.prompt())
	switch {
	case l.named != "" && l.named != line:
		return nil // in a message of the day
	case l.answered():
		return l.denied(l.whyAgain(line))
	case l.o.User == "":
		return l.refused(fmt.Sprintf("the host asks %s, and no user is given", said(line)), "put the name before the host: user@host")
	}
	l.named = line
	return l.answer(ctx, l.o.User, false)
}

// giveSecret types the answer to a question.
func (l *login) giveSecret(ctx context.Context, p prompt) error {
	line := strings.TrimSpace(l.prompt())
	if l.asked[p] {
		return l.denied(l.whyAgain(line))
	}
	if l.overdue {
		return l.denied(l.whyAgain(line))
	}
	l.asked[p] = true
	question := line
	if l.challenge != "" {
		question = l.challenge + " " + line
		l.challenge = ""
	}
	l.words = nil // what comes now is about the answer
	whose := ""
	if l.becoming {
		whose = l.peer + ": "
	}
	return l.askFor(ctx, whose, question, l.o.Secret)
}

// whyAgain returns what the host said before it asked again.
func (l *login) whyAgain(line string) string {
	if len(l.words) > 0 {
		return l.words[len(l.words)-1]
	}
	return line
}

// become makes the shell one of root.
func (l *login) become(ctx context.Context) error {
	command := "exec su"
	if l.o.Become == "sudo" {
		command = "exec sudo -s"
	}
	l.peer, l.words, l.named, l.becoming = l.o.Become, nil, "", true
	const prefix = "bodkin-"
	nonce := rand.Text()[:16] // 80 bits
	l.ours = nonce            // in our line, and in the marker
	if err := l.answer(ctx, "echo "+prefix+"''"+nonce+"; "+command, false); err != nil {
		return err
	}
	for {
		if err := l.more(ctx, "the shell to start "+l.o.Become); err != nil {
			return err
		}
		for len(l.rest) > 0 {
			if line, _ := l.hear(); line == prefix+nonce {
				if err := l.hearAll(); err != nil {
					return err
				}
				return l.untilShell(ctx, true)
			}
		}
	}
}
