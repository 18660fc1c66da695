package ppp

import (
	"time"

	"github.com/bodkin-net/bodkin/link/ppp/auth"
)

// authentication is what stands between an open LCP and the network phase: the
// peer proves who it is if we asked for that, and we if it did.
type authentication struct {
	prover        *auth.Prover        // nil: nothing to prove
	authenticator *auth.Authenticator // nil: nothing to ask
	proves, asks  auth.Protocol       // theirs

	passed bool   // both ways; the network phase began
	peer   string // the name that the peer proved

	deadline   time.Time // for all of it
	prove, ask time.Time // of the restart timers
	recheck    time.Time // of the next challenge on an open link
}

// speaks reports whether an authentication protocol was agreed on.
func (a *authentication) speaks(protocol uint16) bool {
	return a.prover != nil && a.proves.Number() == protocol || a.authenticator != nil && a.asks.Number() == protocol
}

// startAuth begins the authentication phase, which may be over at once.
func (l *Link) startAuth(now time.Time) {
	c, a := &l.c.Auth, &l.auth
	if len(c.Require) > 0 && l.in.Auth == 0 {
		l.shut(errorf(PeerRefused, nil, "lcp: no common authentication: we asked for %s, which the peer refused", protocols(c.Require)), "peer refused to authenticate", now)
		return
	}
	if l.in.Auth != 0 {
		a.asks = l.in.Auth
		a.authenticator = auth.NewAuthenticator(a.asks, c.Name, c.RemoteName, c.Secret, l.c.Rand)
		a.authenticator.MaxTries = c.MaxTries
	}
	if l.out.Auth != 0 {
		a.proves = l.out.Auth
		a.prover = auth.NewProver(a.proves, c.Name, c.RemoteName, c.Secret, l.c.Rand)
		a.prover.MaxTries = c.MaxTries
		a.prover.Beware(a.authenticator)
	}
	if a.authenticator != nil || a.prover != nil {
		a.deadline = now.Add(c.Timeout)
	}
	if a.authenticator != nil {
		l.sendAuth(a.asks, a.authenticator.Start(), &a.ask, now)
	}
	if a.prover != nil {
		l.sendAuth(a.proves, a.prover.Start(), &a.prove, now)
	}
	l.judgeAuth(now)
}

func (l *Link) stopAuth() { l.auth = authentication{} }

// sendAuth sends what a machine gave, nil for nothing, and sets its restart timer.
func (l *Link) sendAuth(p auth.Protocol, b []byte, timer *time.Time, now time.Time) {
	if b != nil {
		l.sendRaw(p.Number(), b)
	}
	*timer = now.Add(l.c.Auth.Restart)
}

// receiveAuth gives a packet to both sides, where both speak its protocol: each
// takes what is its own.
func (l *Link) receiveAuth(protocol uint16, b []byte, now time.Time) {
	a := &l.auth
	if a.authenticator != nil && a.asks.Number() == protocol {
		if send, _ := a.authenticator.Receive(b); send != nil {
			l.sendAuth(a.asks, send, &a.ask, now)
		}
	}
	if a.prover != nil && a.proves.Number() == protocol {
		if send, _ := a.prover.Receive(b); send != nil {
			l.sendAuth(a.proves, send, &a.prove, now)
		}
	}
	l.judgeAuth(now)
}

// judgeAuth acts on the verdicts.
func (l *Link) judgeAuth(now time.Time) {
	a := &l.auth
	asked, proved := auth.Success, auth.Success
	if a.authenticator != nil {
		asked = a.authenticator.Verdict()
	}
	if a.prover != nil {
		proved = a.prover.Verdict()
	}
	switch {
	case asked == auth.Failure:
		l.shut(errorf(PeerRefused, nil, "%s: %s", a.asks, a.authenticator.Reason()), "Authentication failed", now)
	case proved == auth.Failure:
		l.shut(errorf(OurSecret, nil, "%s: %s", a.proves, a.prover.Reason()), "Failed to authenticate ourselves to peer", now)
	case asked == auth.Pending || proved == auth.Pending || a.passed:
	default:
		a.passed = true
		a.deadline = time.Time{}
		if a.authenticator != nil {
			a.peer = a.authenticator.Peer()
			l.notify(Event{Kind: Authenticated, Peer: a.peer})
			if l.c.Auth.ChapRechecks > 0 {
				a.recheck = now.Add(l.c.Auth.ChapRechecks)
			}
		}
		l.startNetworks(now)
	}
}

func (l *Link) authenticatorLate(now time.Time) {
	if l.auth.authenticator == nil {
		return
	}
	if send, _ := l.auth.authenticator.Timeout(); send != nil {
		l.sendAuth(l.auth.asks, send, &l.auth.ask, now)
	}
	l.judgeAuth(now)
}

func (l *Link) proverLate(now time.Time) {
	if l.auth.prover == nil {
		return
	}
	if send, _ := l.auth.prover.Timeout(); send != nil {
		l.sendAuth(l.auth.proves, send, &l.auth.prove, now)
	}
	l.judgeAuth(now)
}

// recheck challenges the peer anew. Traffic goes on meanwhile.
func (l *Link) recheck(now time.Time) {
	if l.auth.authenticator == nil {
		return
	}
	if send := l.auth.authenticator.Recheck(); send != nil {
		l.sendAuth(l.auth.asks, send, &l.auth.ask, now)
	}
	l.auth.recheck = now.Add(l.c.Auth.ChapRechecks)
}

// authLate ends a link on which the proofs take too long.
func (l *Link) authLate(now time.Time) {
	a := &l.auth
	if a.authenticator != nil && a.authenticator.Verdict() == auth.Pending {
		l.shut(errorf(PeerRefused, nil, "%s: not done in %s: %s", a.asks, l.c.Auth.Timeout, a.authenticator.Reason()), "Authentication failed", now)
	} else if a.prover != nil && a.prover.Verdict() == auth.Pending {
		l.shut(errorf(OurSecret, nil, "%s: not done in %s: %s", a.proves, l.c.Auth.Timeout, a.prover.Reason()), "Failed to authenticate ourselves to peer", now)
	}
}

// authRejected takes a Protocol-Reject of what was agreed on.
func (l *Link) authRejected(protocol uint16, now time.Time) {
	a := &l.auth
	if a.passed {
		return
	}
	if a.authenticator != nil && a.asks.Number() == protocol {
		l.shut(errorf(PeerRefused, nil, "%s: the peer agreed to it, and does not know it", a.asks), "Authentication failed", now)
	} else {
		l.shut(errorf(OurSecret, nil, "%s: the peer asked for it, and does not know it", a.proves), "Failed to authenticate ourselves to peer", now)
	}
}

// protocols names some for people.
func protocols(all []auth.Protocol) string {
	s := ""
	for i, p := range all {
		if i > 0 {
			s += ", "
		}
		s += p.String()
	}
	return s
}
