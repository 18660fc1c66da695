package ppp

import "time"

// An alarm is one deadline, and what to do then.
type alarm struct {
	at   *time.Time // zero: none
	ring func(now time.Time)
}

// setAlarms makes the list of all deadlines.
func (l *Link) setAlarms() {
	l.alarms = []alarm{
		{&l.settled, l.lowerUp},
		{&l.lcp.deadline, l.lcp.timeout},
		{&l.ipcp.deadline, l.ipcp.timeout},
		{&l.ipv6cp.deadline, l.ipv6cp.timeout},
		{&l.auth.deadline, l.authLate},
		{&l.auth.prove, l.proverLate},
		{&l.auth.ask, l.authenticatorLate},
		{&l.auth.recheck, l.recheck},
		{&l.echo.next, l.echoDue},
	}
}

// keep rings the alarms until the link is over, then takes it down: the last
// frames go out, the Stream is closed, which wakes the reader and the writer, and
// both are waited for.
func (l *Link) keep() {
	timer := time.AfterFunc(0, func() { signal(l.kick) })
	defer timer.Stop()
	for over := false; !over; {
		select {
		case <-l.kick:
		case <-l.ended:
			over = true
		}
		l.mu.Lock()
		if next := l.ringAlarms(time.Now()); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		l.mu.Unlock()
	}
	late := time.AfterFunc(flushPatience, func() { l.stream.Close() })
	l.flush()
	late.Stop()
	l.stream.Close()
	l.running.Wait()
	if l.record != nil {
		l.record.SentEnd()
		l.record.ReceivedEnd()
	}
	close(l.done)
}

// ringAlarms rings what is due and returns the next deadline, zero if there is
// none.
func (l *Link) ringAlarms(now time.Time) (next time.Time) {
	if l.over {
		return time.Time{}
	}
	for _, a := range l.alarms {
		if !a.at.IsZero() && !a.at.After(now) {
			*a.at = time.Time{}
			a.ring(now)
		}
	}
	for _, a := range l.alarms {
		if !a.at.IsZero() && (next.IsZero() || a.at.Before(next)) {
			next = *a.at
		}
	}
	return next
}

// A budget limits what the peer can make us send that answers nothing useful. It
// is full at first, and gets one more each second.
type budget struct {
	spent int
	since time.Time
}

// maxRejections is how many rejections may leave at once: as many as a peer with
// every protocol there is begins with.
const maxRejections = 16

// spend reports whether there is something left, and takes it.
func (b *budget) spend(now time.Time) bool {
	if seconds := int(now.Sub(b.since) / time.Second); seconds > 0 {
		b.spent = max(0, b.spent-seconds)
		b.since = now
	}
	if b.spent >= maxRejections {
		return false
	}
	b.spent++
	return true
}
