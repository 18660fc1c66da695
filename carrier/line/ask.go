package line

import (
	"context"
	"time"
)

const (
	// firstWait is how long a question goes unanswered before it is asked in another
	// style, and laterWait before it is asked in the same again, where all that is sent
	// takes no time: a far half that starts late is found soon, and hello is 30 octets.
	firstWait = time.Second
	laterWait = 2 * time.Second

	// longestWait is how long a question goes unanswered at most, whatever the rate is
	// thought to be: the other half must not take it for silence. A pattern of 500
	// octets needs 17 octets per second. A slower way is asked too often, until this has
	// doubled often enough.
	longestWait = 30 * time.Second

	// chatterWait is when a question is repeated though something keeps coming, and
	// longestChatter the same where that may well be a slow answer.
	chatterWait    = 10 * time.Second
	longestChatter = 40 * time.Second

	// slowAnswer is when an answer is asked for again: the far half may have been late
	// with the first, which says nothing of the way.
	slowAnswer = 250 * time.Millisecond

	// rulerRate, in octets per second, is from where rulers are cheap: one takes two
	// seconds, where that is the true rate and not only the least that it may be.
	rulerRate = 2000
)

// A style is how a question is asked: who ends lines, and how long its ruler is.
type style struct {
	ends  bool // the one who asks
	ask   bool // the one who answers
	ruler int
}

// atLeast returns the styles in which a question is asked in turn, where base may be
// enough. A way that delivers whole lines only is known by that: the question that
// had no line end is not answered.
func (t *talk) atLeast(base style) []style {
	styles := []style{base}
	if t.lines() && !base.ends {
		styles = append(styles, style{ends: true, ask: base.ask})
	}
	if t.lines() && !base.ask {
		styles = append(styles, style{ends: true, ask: true})
	}
	return styles
}

// An asker is the dialling half of a talk.
type asker struct {
	*talk
	wish   Coding       // what either user insists on
	number byte         // of the next question
	said   [256]attempt // the questions, by number
	theirs *pattern     // the one that is asked for

	roundTrip time.Duration // the shortest; 0: none yet
	rate      float64       // octets per second each way, at least; 0: not known
}

// An attempt is what is remembered of a question.
type attempt struct {
	style
	at      time.Time
	length  int           // in octets
	elapsed time.Duration // until its answer came
}

// ask is Dial's part.
func (t *talk) ask(ctx context.Context) (Measured, error) {
	a := &asker{talk: t, wish: t.options.Coding}
	if err := a.greet(ctx); err != nil {
		return Measured{}, err
	}
	out, in, err := a.try(ctx)
	if err != nil {
		return Measured{}, err
	}
	m := Measured{RoundTrip: a.roundTrip, Rate: a.gauge.rate()}
	if m.Out, err = out.choose(a.wish); err != nil {
		return Measured{}, err
	}
	if m.In, err = in.choose(a.wish); err != nil {
		return Measured{}, err
	}
	return m, a.begin(ctx, message{
		kind: begin, attempt: a.number, ends: out.ends, ask: in.ends, nonce: a.dialler,
		out: m.Out.route(), in: m.In.route(),
	})
}

// greet exchanges nonces and what the two sides know.
func (a *asker) greet(ctx context.Context) error {
	var base style
	for range 2 {
		m, used, err := a.question(ctx, hello, a.atLeast(base), func(number byte, s style) []byte {
			return a.text(message{kind: hello, attempt: number, ends: s.ends, ask: s.ask, version: version, nonce: a.dialler})
		})
		if err != nil {
			return err
		}
		if m.version != version {
			return refuse("the far half speaks version %d of this, we speak %d", m.version, version)
		}
		if a.wish == Auto {
			a.wish = m.wish
		}
		if a.wish > Armour || m.wish != Auto && m.wish != a.wish {
			return refuse("the far side insists on %v, this one on %v", m.wish, a.wish)
		}
		if without(own, m.set) != own {
			return refuse("the far side says that not even letters and digits arrive")
		}
		a.accepter, a.never = m.nonce, never(a.never, m.set)
		if used.elapsed < slowAnswer {
			break
		}
		base = a.said[a.number-1].style // that much was enough
	}
	return nil
}

// try exchanges patterns, and returns what was found.
func (a *asker) try(ctx context.Context) (out, in finding, err error) {
	first := allParts
	if !a.lines() {
		first = outRest | inRest
	}
	used, err := a.test(ctx, first, a.atLeast(style{}), &out, &in)
	if err != nil {
		return out, in, err
	}
	base := style{ends: used.ends, ask: used.ask}
	switch {
	case !a.lines():
		// Where bit 7 arrives, 0x80 to 0x9f are no controls.
		var second parts
		if without(sevenths, out.unsafe()) == sevenths {
			second |= outHigh
		}
		if without(sevenths, in.unsafe()) == sevenths {
			second |= inHigh
		}
		if second != 0 {
			_, err = a.test(ctx, second, []style{base}, &out, &in)
		}
	case a.rate >= rulerRate:
		base.ruler = longRuler
		_, err = a.test(ctx, 0, []style{base, {true, true, longRuler}, {true, true, 0}}, &out, &in)
	}
	return out, in, err
}

// sevenths is most of what has bit 7, and no control without it.
var sevenths = between(0xa1, 0xfe)

// test exchanges patterns of the parts and adds what was found to out and in.
func (a *asker) test(ctx context.Context, which parts, styles []style, out, in *finding) (attempt, error) {
	ours := tried(a.never, which&outRest != 0, which&outHigh != 0)
	theirs := tried(a.never, which&inRest != 0, which&inHigh != 0)
	a.theirs = newPattern(accepting, theirs)
	_, used, err := a.question(ctx, tail, styles, func(number byte, s style) []byte {
		return a.talk.test(message{
			attempt: number, ends: s.ends, ask: s.ask, nonce: a.dialler,
			parts: which, ruler: uint16(s.ruler), set: a.stream.Unsafe,
		}, s.ruler, newPattern(dialling, ours))
	})
	if err != nil {
		return used, err
	}
	out.add(ours, a.heading.set, used.ends, used.ruler, int(a.heading.ruler))
	in.add(theirs, a.theirs.unsafe(a.between), used.ask, used.ruler, rulerIn(a.between))
	return used, nil
}

// begin says begin once, and hears it once. Neither half sends anything but data
// after it, so whatever of the talk is still under way comes before.
func (a *asker) begin(ctx context.Context, m message) error {
	a.queued = a.text(m)
	patience := a.patience(len(a.queued))
	for {
		m, _, err := a.hear(ctx, time.Time{}, patience)
		if err != nil || m.kind == begin {
			return err
		}
	}
}

// patience is how long octets may take for the way there.
func (a *asker) patience(octets int) time.Duration {
	if a.rate == 0 {
		return 0
	}
	return time.Duration(1.5 * float64(octets) / a.rate * float64(time.Second))
}

// question asks, in the styles in turn, until it is answered, and returns the answer
// and the attempt that it answers. That of a pattern is the last one, so that its
// style is known to be enough: an earlier answer may have come because of the line
// ends in what was sent later.
func (a *asker) question(ctx context.Context, answer kind, styles []style, text func(number byte, s style) []byte) (message, attempt, error) {
	for k := 0; ; k++ {
		now := attempt{style: styles[k%len(styles)], at: time.Now()}
		if answer == tail { // the last is enough for every way
			now.style = styles[min(k, len(styles)-1)]
		}
		a.queued = text(a.number, now.style)
		now.length = len(a.queued)
		a.said[a.number] = now
		a.number++

		wait, longest := laterWait, longestWait
		if k < len(styles)-1 || k == 0 {
			wait = firstWait
		}
		if answer == tail { // hello goes on as it is: somebody may come any moment
			again := min(max(0, k-len(styles)), 5)
			wait, longest = wait<<again, longest<<again
		}
		wait = min(wait+a.patience(now.length), longest)
		m, err := a.answerTo(ctx, answer, k, wait)
		if err != nil {
			return m, attempt{}, err
		}
		if m.kind == answer {
			return m, a.account(m), nil
		}
	}
}

// answerTo returns the answer, or a message of no kind when it is time to ask again;
// the question was asked k times before.
func (a *asker) answerTo(ctx context.Context, answer kind, k int, wait time.Duration) (message, error) {
	at := time.Now()
	for {
		quiet := at
		for _, t := range []time.Time{a.sent, a.news} {
			if t.After(quiet) {
				quiet = t
			}
		}
		until := quiet.Add(wait)
		if last := at.Add(max(chatterWait, min(4*wait, longestChatter), wait)); last.Before(until) {
			until = last
		}
		if !time.Now().Before(until) {
			if a.queued == nil && !a.writing {
				return message{}, nil
			}
			until = time.Now().Add(wait) // the way has not taken it yet
		}
		m, ok, err := a.hear(ctx, until, wait)
		if err != nil {
			return m, err
		}
		if !ok || m.kind != answer {
			continue
		}
		switch before := int(a.number - 1 - m.attempt); {
		case answer == hello && before <= k,
			answer == tail && before == 0 && (m.ends || !a.cut()):
			return m, nil
		}
	}
}

// cut reports whether the pattern that has come has not come whole, and may if it is
// asked for in lines.
func (a *asker) cut() bool {
	return a.lines() && a.theirs.cut(a.between)
}

// account notes what an answer says of the way.
func (a *asker) account(m message) attempt {
	used := a.said[m.attempt]
	elapsed := max(time.Since(used.at), time.Microsecond)
	used.elapsed = elapsed
	if a.roundTrip == 0 || elapsed < a.roundTrip {
		a.roundTrip = elapsed
	}
	answer := len(a.text(m))
	if m.kind == tail {
		a.gauge.went(used.length-answer, a.headed.Sub(used.at))
		answer += len(a.between)
	} else {
		a.gauge.short(elapsed)
	}
	a.rate = max(a.rate, float64(min(used.length, answer))/elapsed.Seconds())
	return used
}
