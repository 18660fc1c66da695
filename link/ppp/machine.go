package ppp

import (
	"bytes"
	"slices"
	"time"
)

// A verdict is what we think of one option that the peer asks for.
type verdict int

const (
	take   verdict = iota // as it is
	nak                   // with another value
	reject                // not at all
)

// A negotiation is what one protocol makes of the options: what it asks for, and
// what it thinks of the peer's. It knows nothing of states.
type negotiation interface {
	// begin forgets what the last negotiation taught about our request.
	begin()

	// request appends the options that we ask for now.
	request(dst []byte) []byte

	// consider judges one option of the peer's request; listen is called before
	// the first. With nak comes the value that we would take.
	listen()
	consider(o option) (v verdict, value []byte)

	// missing appends options that the peer did not ask for and should.
	missing(dst []byte) []byte

	// naked and rejected tell what the peer thinks of ours. naked may get an
	// option that we did not ask for.
	naked(o option)
	rejected(o option)
}

// A layer is told where its machine goes. Its methods are tlu, tld and tlf of
// RFC 1661, section 4.4. up may step the machine again; down may not.
type layer interface {
	negotiation
	up(now time.Time)
	down(now time.Time)
	finished(now time.Time)
}

// A machine is one control protocol's automaton with its counters, identifiers
// and options. It does no I/O and reads no clock: packets and the time go in,
// packets go out by send, and deadline says when to call timeout.
type machine struct {
	protocol uint16
	name     string // as pppd writes it
	layer    layer
	timers   Timers
	passive  bool // stays in Stopped when nobody answers, without a tlf
	send     func(protocol uint16, p packet)

	// mru is how much data a packet to the peer may have.
	mru func() int

	state    state
	restarts int       // the restart counter
	deadline time.Time // of the restart timer; zero when it does not run

	id       byte   // of the last packet that we made up
	asked    byte   // identifier of our last Configure-Request
	request  []byte // its options
	answered bool   // and whether it was answered; later answers are repetitions
	ended    byte   // identifier of our last Terminate-Request
	goodbye  string // what a Terminate-Request says

	naksSent, naksGot int // since the negotiation began

	// What the actions of one step refer to.
	in     packet // the packet that is being answered
	answer packet // the Ack, Nak or Reject to it
}

// step moves m by one event.
func (m *machine) step(e event, now time.Time) {
	cell, ok := automaton[m.state][e]
	if !ok {
		return
	}
	if m.passive && e == toLast && (m.state == reqSent || m.state == ackRcvd || m.state == ackSent) {
		cell.actions = nil
	}
	negotiating := m.state == reqSent || m.state == ackRcvd || m.state == ackSent
	m.state = cell.state
	switch m.state {
	case initial, starting, closed, stopped, opened:
		m.deadline = time.Time{}
	}
	for i, a := range cell.actions {
		switch a {
		case tlu:
			m.layer.up(now)
		case tld:
			m.layer.down(now)
		case tlf:
			m.layer.finished(now)
		case irc:
			m.restarts = m.timers.MaxConfigure
			if i+1 < len(cell.actions) && cell.actions[i+1] == str {
				m.restarts = m.timers.MaxTerminate
			}
			if m.state == ackRcvd {
				m.deadline = now.Add(m.timers.Restart)
			}
		case zrc: // and stay for one period, for the Ack to get through
			m.restarts = 0
			m.deadline = now.Add(m.timers.Restart)
		case scr:
			if !negotiating {
				m.layer.begin()
				m.naksSent, m.naksGot = 0, 0
			}
			m.configure(now, e == toAgain && !m.answered)
		case sca, scn:
			m.send(m.protocol, m.answer)
		case str:
			m.restarts--
			m.deadline = now.Add(m.timers.Restart)
			if e != toAgain {
				m.ended = m.nextID()
			}
			m.send(m.protocol, packet{termReq, m.ended, []byte(m.goodbye)})
		case sta:
			id := m.in.id
			if m.in.code != termReq {
				id = m.nextID()
			}
			m.send(m.protocol, packet{code: termAck, id: id})
		case scj:
			whole := appendPacket(nil, m.in)
			m.send(m.protocol, packet{codeRej, m.nextID(), whole[:min(len(whole), m.mru()-headerLen)]})
		}
	}
}

func (m *machine) nextID() byte {
	m.id++
	return m.id
}

// configure sends a Configure-Request: the last one again, or a new one.
func (m *machine) configure(now time.Time, again bool) {
	if !again {
		m.asked = m.nextID()
		m.request = m.layer.request(m.request[:0])
		m.answered = false
	}
	m.restarts--
	m.deadline = now.Add(m.timers.Restart)
	m.send(m.protocol, packet{confReq, m.asked, m.request})
}

// timeout is to be called when deadline has come.
func (m *machine) timeout(now time.Time) {
	m.deadline = time.Time{}
	if m.restarts > 0 {
		m.step(toAgain, now)
	} else {
		m.step(toLast, now)
	}
}

// close ends the layer in good order; the reason is told to the peer.
func (m *machine) close(reason string, now time.Time) {
	m.goodbye = reason[:min(len(reason), m.mru()-headerLen)]
	m.step(closeIt, now)
}

// receive takes a packet of the codes that all control protocols share; any
// other code is unknown here. It drops what answers nothing that we asked: an Ack,
// Nak or Reject with another Identifier (RFC 1661, sections 5.2 to 5.4).
//
// A second answer to one request is dropped too, as pppd does. The RFC would
// start anew for it, but after a retransmission it is only the other copy's.
func (m *machine) receive(p packet, now time.Time) {
	m.in = p
	defer func() { m.in, m.answer = packet{}, packet{} }()
	if m.state == initial || m.state == starting {
		return
	}
	switch p.code {
	case confReq:
		good, answer, ok := m.judge(p)
		if !ok {
			return
		}
		m.answer = answer
		if good {
			m.step(rcrGood, now)
		} else {
			m.step(rcrBad, now)
		}
	case confAck:
		if m.answers(p) && bytes.Equal(p.data, m.request) {
			m.answered = true
			m.naksGot = 0
			m.step(rca, now)
		}
	case confNak, confRej:
		if m.answers(p) && m.learn(p) {
			m.answered = true
			m.step(rcn, now)
		}
	case termReq:
		m.step(rtr, now)
	case termAck:
		m.step(rta, now)
	case codeRej:
		if len(p.data) > 0 && p.data[0] >= confReq && p.data[0] <= codeRej {
			m.step(rxjBad, now)
		} else {
			m.step(rxjGood, now)
		}
	default:
		m.step(ruc, now)
	}
}

// answers reports whether p answers our last request, for the first time. In the
// states without a request anything does: the table says what to make of it.
func (m *machine) answers(p packet) bool {
	return m.state < closing || p.id == m.asked && !m.answered
}

// learn takes a Nak or Reject. It reports false if that is not one of our request:
// a Reject that is no subset of it in its order, or octets that are no options.
func (m *machine) learn(p packet) bool {
	if m.state < closing {
		return true
	}
	options, ok := parseOptions(p.data)
	if !ok {
		return false
	}
	if p.code == confRej {
		ours, _ := parseOptions(m.request)
		at := 0
		for _, o := range options {
			i := slices.IndexFunc(ours[at:], func(our option) bool {
				return our.kind == o.kind && bytes.Equal(our.value, o.value)
			})
			if i < 0 {
				return false
			}
			at += i + 1
		}
	}
	// A peer that goes on naming what we do not take gets no more of it, as if it
	// had rejected: pppd does the same.
	m.naksGot++
	for _, o := range options {
		if p.code == confRej || m.naksGot > m.timers.MaxFailure {
			m.layer.rejected(o)
		} else {
			m.layer.naked(o)
		}
	}
	return true
}

// judge answers the peer's Configure-Request. It reports false if that holds
// octets that are no options.
//
// What is rejected goes before what is only naked or missing (RFC 1661, sections
// 5.3 and 5.4), and after MaxFailure Naks without agreement all is rejected
// (section 4.6). The answer is no longer than the peer takes.
func (m *machine) judge(p packet) (good bool, answer packet, ok bool) {
	options, ok := parseOptions(p.data)
	if !ok {
		return false, packet{}, false
	}
	room := m.mru() - headerLen
	var naks, rejects []byte
	refused := false
	add := func(dst []byte, kind byte, value []byte) []byte {
		if len(dst)+2+len(value) > room {
			return dst
		}
		return appendOption(dst, kind, value...)
	}
	giveUp := m.naksSent >= m.timers.MaxFailure
	m.layer.listen()
	for _, o := range options {
		v, value := m.layer.consider(o)
		switch {
		case v == reject, v == nak && giveUp:
			rejects, refused = add(rejects, o.kind, o.value), true
		case v == nak:
			naks, refused = add(naks, o.kind, value), true
		}
	}
	if !giveUp && len(rejects) == 0 {
		if more := m.layer.missing(naks); len(more) <= room {
			naks = more
		}
	}
	switch {
	case len(rejects) > 0:
		return false, packet{confRej, p.id, rejects}, true
	case len(naks) > 0:
		m.naksSent++
		return false, packet{confNak, p.id, naks}, true
	case refused: // but there is no room to say so
		return false, packet{}, false
	}
	m.naksSent = 0
	return true, packet{confAck, p.id, p.data}, true
}
