package ppp

// A state is one of RFC 1661, section 4.2.
type state uint8

const (
	initial state = iota
	starting
	closed
	stopped
	closing
	stopping
	reqSent
	ackRcvd
	ackSent
	opened
)

var stateNames = [...]string{"Initial", "Starting", "Closed", "Stopped", "Closing", "Stopping", "Req-Sent", "Ack-Rcvd", "Ack-Sent", "Opened"}

func (s state) String() string { return stateNames[s] }

// An event is one of RFC 1661, section 4.3.
type event uint8

const (
	up      event = iota // the lower layer is up
	down                 // the lower layer is down
	open                 // this layer is wanted
	closeIt              // this layer is not wanted any more
	toAgain              // TO+: a restart period passed, the counter is not yet 0
	toLast               // TO-: a restart period passed, the counter is 0
	rcrGood              // RCR+: a Configure-Request we take
	rcrBad               // RCR-: a Configure-Request we do not take
	rca                  // a Configure-Ack
	rcn                  // a Configure-Nak or Configure-Reject
	rtr                  // a Terminate-Request
	rta                  // a Terminate-Ack
	ruc                  // a code we do not know
	rxjGood              // RXJ+: a rejection we can live with
	rxjBad               // RXJ-: a rejection we cannot live with
	rxr                  // an Echo-Request, Echo-Reply or Discard-Request
)

// An action is one of RFC 1661, section 4.4.
type action uint8

const (
	tlu action = iota // this layer is up
	tld               // this layer is down
	tls               // this layer wants the lower one
	tlf               // this layer wants the lower one no more
	irc               // initialize the restart counter
	zrc               // zero the restart counter
	scr               // send a Configure-Request
	sca               // send a Configure-Ack
	scn               // send a Configure-Nak or Configure-Reject
	str               // send a Terminate-Request
	sta               // send a Terminate-Ack
	scj               // send a Code-Reject
	ser               // send an Echo-Reply, if it is a request
)

// A next is one cell of the table: where to go, and what to do on the way.
type next struct {
	state   state
	actions []action
}

func to(s state, actions ...action) next { return next{s, actions} }

// automaton is the table of RFC 1661, section 4.1, by state and in the order of
// its rows, so that the two can be read side by side. An absent cell is one that
// the RFC marks "-": the event cannot occur there, and is ignored if it does.
//
// Three cells have a choice. A layer that is opened again stays as it is ([r]);
// the caller takes care of the passive option ([p]); a crossed connection ([x])
// starts anew.
var automaton = [...]map[event]next{
	initial: {
		up:      to(closed),
		open:    to(starting, tls),
		closeIt: to(initial),
	},
	starting: {
		up:      to(reqSent, irc, scr),
		open:    to(starting),
		closeIt: to(initial, tlf),
	},
	closed: {
		down:    to(initial),
		open:    to(reqSent, irc, scr),
		closeIt: to(closed),
		rcrGood: to(closed, sta),
		rcrBad:  to(closed, sta),
		rca:     to(closed, sta),
		rcn:     to(closed, sta),
		rtr:     to(closed, sta),
		rta:     to(closed),
		ruc:     to(closed, scj),
		rxjGood: to(closed),
		rxjBad:  to(closed, tlf),
		rxr:     to(closed),
	},
	stopped: {
		down:    to(starting, tls),
		open:    to(stopped), // [r]
		closeIt: to(closed),
		rcrGood: to(ackSent, irc, scr, sca),
		rcrBad:  to(reqSent, irc, scr, scn),
		rca:     to(stopped, sta),
		rcn:     to(stopped, sta),
		rtr:     to(stopped, sta),
		rta:     to(stopped),
		ruc:     to(stopped, scj),
		rxjGood: to(stopped),
		rxjBad:  to(stopped, tlf),
		rxr:     to(stopped),
	},
	closing: {
		down:    to(initial),
		open:    to(stopping), // [r]
		closeIt: to(closing),
		toAgain: to(closing, str),
		toLast:  to(closed, tlf),
		rcrGood: to(closing),
		rcrBad:  to(closing),
		rca:     to(closing),
		rcn:     to(closing),
		rtr:     to(closing, sta),
		rta:     to(closed, tlf),
		ruc:     to(closing, scj),
		rxjGood: to(closing),
		rxjBad:  to(closed, tlf),
		rxr:     to(closing),
	},
	stopping: {
		down:    to(starting),
		open:    to(stopping), // [r]
		closeIt: to(closing),
		toAgain: to(stopping, str),
		toLast:  to(stopped, tlf),
		rcrGood: to(stopping),
		rcrBad:  to(stopping),
		rca:     to(stopping),
		rcn:     to(stopping),
		rtr:     to(stopping, sta),
		rta:     to(stopped, tlf),
		ruc:     to(stopping, scj),
		rxjGood: to(stopping),
		rxjBad:  to(stopped, tlf),
		rxr:     to(stopping),
	},
	reqSent: {
		down:    to(starting),
		open:    to(reqSent),
		closeIt: to(closing, irc, str),
		toAgain: to(reqSent, scr),
		toLast:  to(stopped, tlf), // [p]
		rcrGood: to(ackSent, sca),
		rcrBad:  to(reqSent, scn),
		rca:     to(ackRcvd, irc),
		rcn:     to(reqSent, irc, scr),
		rtr:     to(reqSent, sta),
		rta:     to(reqSent),
		ruc:     to(reqSent, scj),
		rxjGood: to(reqSent),
		rxjBad:  to(stopped, tlf),
		rxr:     to(reqSent),
	},
	ackRcvd: {
		down:    to(starting),
		open:    to(ackRcvd),
		closeIt: to(closing, irc, str),
		toAgain: to(reqSent, scr),
		toLast:  to(stopped, tlf), // [p]
		rcrGood: to(opened, sca, tlu),
		rcrBad:  to(ackRcvd, scn),
		rca:     to(reqSent, scr), // [x]
		rcn:     to(reqSent, scr), // [x]
		rtr:     to(reqSent, sta),
		rta:     to(reqSent),
		ruc:     to(ackRcvd, scj),
		rxjGood: to(reqSent),
		rxjBad:  to(stopped, tlf),
		rxr:     to(ackRcvd),
	},
	ackSent: {
		down:    to(starting),
		open:    to(ackSent),
		closeIt: to(closing, irc, str),
		toAgain: to(ackSent, scr),
		toLast:  to(stopped, tlf), // [p]
		rcrGood: to(ackSent, sca),
		rcrBad:  to(reqSent, scn),
		rca:     to(opened, irc, tlu),
		rcn:     to(ackSent, irc, scr),
		rtr:     to(reqSent, sta),
		rta:     to(ackSent),
		ruc:     to(ackSent, scj),
		rxjGood: to(ackSent),
		rxjBad:  to(stopped, tlf),
		rxr:     to(ackSent),
	},
	opened: {
		down:    to(starting, tld),
		open:    to(opened), // [r]
		closeIt: to(closing, tld, irc, str),
		rcrGood: to(ackSent, tld, scr, sca),
		rcrBad:  to(reqSent, tld, scr, scn),
		rca:     to(reqSent, tld, scr), // [x]
		rcn:     to(reqSent, tld, scr), // [x]
		rtr:     to(stopping, tld, zrc, sta),
		rta:     to(reqSent, tld, scr),
		ruc:     to(opened, scj),
		rxjGood: to(opened),
		rxjBad:  to(stopping, tld, irc, str),
		rxr:     to(opened, ser),
	},
}
