package native

import (
	"encoding/binary"
	"sync"
	"time"
)

// keep answers echo requests when no packets leave, asks after silence, and
// ends the link when there is no answer. It runs until Close. A Stream that lasts
// is watched by what is below: there silence says nothing.
func (l *Link) keep() {
	var tick <-chan time.Time
	if !l.stream.Lasting {
		ticker := time.NewTicker(idleBeforeAsk / 2)
		defer ticker.Stop()
		tick = ticker.C
	}
	var writing sync.WaitGroup // a write that blocks must not stop the watch over silence
	defer writing.Wait()
	busy := make(chan struct{}, 1)
	write := func(fn func() error) {
		select {
		case busy <- struct{}{}:
			writing.Go(func() { fn(); <-busy; l.nudge() })
		default: // the write under way takes what is owed with it, or a nudge follows
		}
	}
	for {
		select {
		case <-l.ended:
			return
		case <-l.wake:
			l.owed.Lock()
			pending := l.owed.reply
			l.owed.Unlock()
			if pending {
				write(func() error { return l.control(nil) })
			}
		case <-tick:
			switch silence := time.Since(l.opened) - time.Duration(l.heard.Load()); {
			case silence >= deadAfter+l.stream.Patience():
				l.fail(ErrSilent)
				l.stream.Close() // wakes the reader and the writer; Close is not for the keeper to call
				return
			case silence >= idleBeforeAsk:
				write(l.Echo)
			}
		}
	}
}

// Echo asks the peer for a sign of life; Stats().RoundTrip tells when it came.
func (l *Link) Echo() error {
	now := int64(time.Since(l.opened))
	l.asked.Store(now)
	frame := binary.BigEndian.AppendUint64(appendHeader(nil, frameEchoRequest, 8), uint64(now))
	return l.control(frame)
}

// echo notes a request, for the keeper to answer, or takes the time of a reply.
func (l *Link) echo(frame byte, payload []byte) {
	if frame == frameEchoReply {
		if at := l.asked.Load(); at != 0 && uint64(at) == binary.BigEndian.Uint64(payload) {
			l.roundTrip.Store(int64(time.Since(l.opened)) - at)
			l.asked.Store(0)
		}
		return
	}
	l.owed.Lock()
	l.owed.reply = true
	copy(l.owed.payload[:], payload)
	l.owed.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// nudge wakes the keeper when something is still owed.
func (l *Link) nudge() {
	l.owed.Lock()
	defer l.owed.Unlock()
	if l.owed.reply {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// appendOwed appends the control frames that are owed to dst.
func (l *Link) appendOwed(dst []byte) []byte {
	l.owed.Lock()
	defer l.owed.Unlock()
	if l.owed.reply {
		l.owed.reply = false
		dst = append(appendHeader(dst, frameEchoReply, 8), l.owed.payload[:]...)
	}
	return dst
}

// control writes control frames, between two batches of packets.
func (l *Link) control(frames []byte) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	frames = l.appendOwed(frames)
	if len(frames) == 0 {
		return nil
	}
	if _, err := l.stream.Write(frames); err != nil {
		return l.fail(err)
	}
	return nil
}
