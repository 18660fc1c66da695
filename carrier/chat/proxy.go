package chat

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// ProxyOptions is where a telnet proxy is to connect to, and how.
type ProxyOptions struct {
	Host string // a name or an address
	Port int

	// Connect is the line typed at the proxy's prompt: %h is Host, %p Port, %% a percent
	// sign. Empty is "c %h %p", or "%h %p" where the proxy asks for a host.
	Connect string

	// User is typed where the proxy itself asks for a name, before it connects.
	User string

	// Secret answers a question of the proxy's own, which begins with "proxy: ". Nil if
	// there is nobody to ask.
	Secret func(ctx context.Context, question string) (string, error)

	// Timeout is how long the proxy may be silent where we wait for it. Zero is 60 s.
	// Some let the one whom they connect to be silent for two minutes.
	Timeout time.Duration

	Banner func(line string) // gets each line that the proxy prints, printable; may be nil
	Log    func(line string) // gets what is done, without secrets; may be nil
}

// Proxy has a telnet proxy connect further: the tn-gw of the TIS Firewall Toolkit, or
// one with a dialogue like it. It waits for the prompt ("tn-gw-> ", "proxy> ", "Enter
// host name:"), types the line, and returns the Stream at the octet that follows the
// line "Connected to ...". The LF is the line's end: a CR alone is not. A proxy that
// does not say so is known to be connected by what only the far side says: a line that
// begins with SSH- (RFC 4253, section 4.2), or a prompt for a name, which then are the
// Stream's first octets, after the line end before them.
//
// It answers the proxy's own questions until the line is typed, each once, and none
// after it. A refusal, with the proxy's words, is a *carrier.RefusedError, and so is its
// prompt after the line; other errors are a *carrier.HangUpError, a
// *carrier.SilenceError and those of Secret. After an error st is closed.
func Proxy(ctx context.Context, st carrier.Stream, o ProxyOptions) (carrier.Stream, error) {
	t := newTalk(st, "proxy", "the proxy", o.Timeout, o.Banner, o.Log)
	p := proxy{talk: t, o: o}
	err := p.check()
	if err == nil {
		err = p.untilPrompt(ctx)
	}
	if err == nil {
		err = p.connect(ctx)
	}
	if err != nil {
		t.in.close()
		return carrier.Stream{}, err
	}
	return t.in.handOn(t.rest).Relayed(), nil
}

// A proxy is a dialogue with one.
type proxy struct {
	*talk
	o         ProxyOptions
	line      string          // what was typed to connect
	asked     map[prompt]bool // questions that were answered
	challenge string          // the line with one, since the last answer
	pending   []byte          // since the last line of the proxy's: the far side's, if it is connected
}

// hostName is what may be typed as a host: a name, or an address of IPv4 or IPv6.
var hostName = regexp.MustCompile(`^[A-Za-z0-9_:\[][A-Za-z0-9_.:%\]-]{0,254}$`)

func (p *proxy) check() error {
	if !hostName.MatchString(p.o.Host) {
		return p.refused(fmt.Sprintf("the host %s: it cannot be typed", said(p.o.Host)), "a name of letters, digits, dots and dashes, or an address")
	}
	if p.o.Port < 1 || p.o.Port > 65535 {
		return p.refused(fmt.Sprintf("the port %d: there are 1 to 65535", p.o.Port), "")
	}
	for _, s := range []string{p.o.User, p.o.Connect} {
		if text, err := oneLine(s); err != nil || text != s || len(s) > 512 {
			return p.refused(fmt.Sprintf("%s cannot be typed", said(s)), "")
		}
	}
	if _, err := p.connectLine(p.o.Connect); err != nil {
		return p.refused(err.Error(), "%h is the host, %p the port, %% a percent sign")
	}
	return nil
}

// connectLine fills in a template.
func (p *proxy) connectLine(template string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(template); i++ {
		if template[i] != '%' {
			b.WriteByte(template[i])
			continue
		}
		i++
		switch {
		case i < len(template) && template[i] == 'h':
			b.WriteString(p.o.Host)
		case i < len(template) && template[i] == 'p':
			b.WriteString(strconv.Itoa(p.o.Port))
		case i < len(template) && template[i] == '%':
			b.WriteByte('%')
		default:
			return "", fmt.Errorf("the line to connect with, %s: a %% with nothing it stands for", said(template))
		}
	}
	return b.String(), nil
}

// untilPrompt answers the proxy's questions until it asks where to connect to, and
// types that.
func (p *proxy) untilPrompt(ctx context.Context) error {
	p.asked = map[prompt]bool{}
	for {
		kind := noPrompt
		if !p.screen.ended {
			kind = proxyPromptOf(p.prompt())
		}
		var err error
		switch kind {
		case proxyPrompt, hostPrompt:
			template := p.o.Connect
			if template == "" && kind == hostPrompt {
				template = "%h %p"
			} else if template == "" {
				template = "c %h %p"
			}
			if p.line, err = p.connectLine(template); err != nil {
				return err
			}
			p.words = nil
			return p.answer(ctx, p.line, false)
		case namePrompt, secretAsked, codeAsked:
			err = p.authenticate(ctx, kind)
		}
		if err == nil {
			err = p.listen(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// listen takes what comes next while there is no prompt. A line that says no counts
// once something was answered, or as the last thing before the end.
func (p *proxy) listen(ctx context.Context) error {
	err := p.more(ctx, "the proxy's prompt")
	for err == nil && len(p.rest) > 0 {
		line, whole := p.hear()
		if !whole {
			continue
		}
		if challengeForm.MatchString(line) {
			p.challenge = line
		}
		if len(p.asked) > 0 && refusal.MatchString(line) {
			return p.denied(line)
		}
	}
	if _, hungUp := err.(*carrier.HangUpError); hungUp {
		if line := p.lastWords(); notConnected.MatchString(line) || refusal.MatchString(line) {
			return p.denied(line)
		}
	}
	return err
}

// authenticate answers a question of the proxy's own.
func (p *proxy) authenticate(ctx context.Context, kind prompt) error {
	line := strings.TrimSpace(p.prompt())
	if p.asked[kind] {
		if len(p.words) > 0 {
			line = p.words[len(p.words)-1]
		}
		return p.denied(line)
	}
	p.asked[kind] = true
	if kind == namePrompt {
		if p.o.User == "" {
			return p.refused(fmt.Sprintf("the proxy asks %s, and no user is given for it", said(line)), "put the name before the proxy: telnet://user@proxy")
		}
		return p.answer(ctx, p.o.User, false)
	}
	question := line
	if p.challenge != "" {
		question = p.challenge + " " + line
		p.challenge = ""
	}
	p.words = nil
	return p.askFor(ctx, "proxy: ", question, p.o.Secret)
}

func (p *proxy) denied(words string) error {
	return p.refused(fmt.Sprintf("the proxy said %s", said(words)), p.advice(words))
}

// advice is what to try after a refusal.
func (p *proxy) advice(words string) string {
	words = strings.ToLower(words)
	switch {
	case p.line == "":
		return "it may not serve this machine, or want another name or password"
	case strings.Contains(words, "unknown") || strings.Contains(words, "not known") || strings.Contains(words, "no such"):
		return "it does not know the host: try its address"
	case strings.Contains(words, "usage") || strings.Contains(words, "invalid") || strings.Contains(words, "illegal") || strings.Contains(words, "bad "):
		return "it connects by another line than " + said(p.line) + ": say which, or write a chat script"
	case strings.Contains(words, "refused") || strings.Contains(words, "timed out") || strings.Contains(words, "timeout") || strings.Contains(words, "unreachable") || strings.Contains(words, "no route"):
		return "it cannot reach the host there: try another port"
	}
	return "it may allow other ports of the host: try 23"
}

// connect waits for the proxy to be connected. What follows is in p.rest.
func (p *proxy) connect(ctx context.Context) error {
	for {
		err := p.more(ctx, "the proxy to connect")
		for err == nil && len(p.rest) > 0 {
			p.pending = append(p.pending, p.rest[0])
			line, whole := p.hear()
			if !whole {
				if bytes.HasPrefix(p.pending, []byte("SSH-")) {
					return p.farSide("an ssh server")
				}
				continue
			}
			p.pending = p.pending[:0]
			done, no := p.answered(line)
			if done || no != nil {
				return no
			}
		}
		if err != nil {
			if _, hungUp := err.(*carrier.HangUpError); hungUp {
				if words := p.lastWords(); notConnected.MatchString(p.withoutHost(words)) {
					return p.denied(words)
				}
			}
			return err
		}
		if p.screen.ended {
			continue
		}
		switch proxyPromptOf(p.prompt()) {
		case proxyPrompt, hostPrompt:
			return p.denied(p.lastOr("its prompt again"))
		case namePrompt:
			if p.tried() {
				return p.farSide("a prompt for a name")
			}
		}
	}
}

// answered judges a line that came after ours: whether it says that the proxy is
// connected, or an error if it says no.
func (p *proxy) answered(line string) (done bool, err error) {
	if strings.Contains(line, p.line) {
		return false, nil // the echo
	}
	bare := p.withoutHost(line)
	switch {
	case connected.MatchString(bare) && !strings.Contains(strings.ToLower(bare), "not connected"):
		p.log("at %q: connected", line)
		return true, nil
	case notConnected.MatchString(bare):
		return false, p.denied(line)
	}
	return false, nil
}

// withoutHost takes the host's name out of a line, which could say anything.
func (p *proxy) withoutHost(line string) string {
	return regexp.MustCompile(`(?i)`+regexp.QuoteMeta(p.o.Host)).ReplaceAllString(line, "")
}

// tried reports whether the proxy said that it is connecting.
func (p *proxy) tried() bool {
	for _, line := range p.words {
		if strings.HasPrefix(strings.ToLower(line), "trying") || strings.HasPrefix(strings.ToLower(line), "connecting") {
			return true
		}
	}
	return false
}

// farSide gives back what only the far side can have said.
func (p *proxy) farSide(who string) error {
	p.log("connected: %s speaks", who)
	p.rest = append(p.pending, p.rest...)
	return nil
}

func (p *proxy) lastOr(words string) string {
	if len(p.words) > 0 {
		return p.words[len(p.words)-1]
	}
	return words
}
