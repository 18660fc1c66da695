package ppp

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// table is RFC 1661, section 4.1, in one piece: a row for each event, a column for
// each state from 0 (Initial) to 9 (Opened), actions before the slash.
const table = `
Up    2      irc,scr/6 -  -               -     -     -         -         -           -
Down  -      -     0      tls/1           0     1     1         1         1           tld/1
Open  tls/1  1     irc,scr/6  3           5     5     6         7         8           9
Close 0      tlf/0 2      2               4     4     irc,str/4 irc,str/4 irc,str/4   tld,irc,str/4
TO+   -      -     -      -               str/4 str/5 scr/6     scr/6     scr/8       -
TO-   -      -     -      -               tlf/2 tlf/3 tlf/3     tlf/3     tlf/3       -
RCR+  -      -     sta/2  irc,scr,sca/8   4     5     sca/8     sca,tlu/9 sca/8       tld,scr,sca/8
RCR-  -      -     sta/2  irc,scr,scn/6   4     5     scn/6     scn/7     scn/6       tld,scr,scn/6
RCA   -      -     sta/2  sta/3           4     5     irc/7     scr/6     irc,tlu/9   tld,scr/6
RCN   -      -     sta/2  sta/3           4     5     irc,scr/6 scr/6     irc,scr/8   tld,scr/6
RTR   -      -     sta/2  sta/3           sta/4 sta/5 sta/6     sta/6     sta/6       tld,zrc,sta/5
RTA   -      -     2      3               tlf/2 tlf/3 6         6         8           tld,scr/6
RUC   -      -     scj/2  scj/3           scj/4 scj/5 scj/6     scj/7     scj/8       scj/9
RXJ+  -      -     2      3               4     5     6         6         8           9
RXJ-  -      -     tlf/2  tlf/3           tlf/2 tlf/3 tlf/3     tlf/3     tlf/3       tld,irc,str/5
RXR   -      -     2      3               4     5     6         7         8           ser/9
`

func TestAutomaton(t *testing.T) {
	events := map[string]event{
		"Up": up, "Down": down, "Open": open, "Close": closeIt, "TO+": toAgain, "TO-": toLast,
		"RCR+": rcrGood, "RCR-": rcrBad, "RCA": rca, "RCN": rcn, "RTR": rtr, "RTA": rta,
		"RUC": ruc, "RXJ+": rxjGood, "RXJ-": rxjBad, "RXR": rxr,
	}
	actions := map[action]string{
		tlu: "tlu", tld: "tld", tls: "tls", tlf: "tlf", irc: "irc", zrc: "zrc", scr: "scr",
		sca: "sca", scn: "scn", str: "str", sta: "sta", scj: "scj", ser: "ser",
	}
	rows := strings.Split(strings.TrimSpace(table), "\n")
	if len(rows) != len(events) {
		t.Fatalf("%d rows", len(rows))
	}
	cells := 0
	for _, row := range rows {
		columns := strings.Fields(row)
		e, ok := events[columns[0]]
		if !ok || len(columns) != 1+len(automaton) {
			t.Fatalf("row %q", row)
		}
		for s, want := range columns[1:] {
			got := "-"
			if cell, ok := automaton[s][e]; ok {
				cells++
				got = fmt.Sprint(int(cell.state))
				var names []string
				for _, a := range cell.actions {
					names = append(names, actions[a])
				}
				if len(names) > 0 {
					got = strings.Join(names, ",") + "/" + got
				}
			}
			if got != want {
				t.Errorf("%s in %s: %s, want %s", columns[0], state(s), got, want)
			}
		}
	}
	for s := range automaton {
		cells -= len(automaton[s])
	}
	if cells != 0 {
		t.Errorf("the table of the RFC has %d cells more than ours", cells)
	}
}

// A script is a layer whose opinion of a request is its first octet: 0 takes it.
type script struct {
	told []string
	asks byte
}

func (s *script) begin()                    { s.told = append(s.told, "begin") }
func (s *script) request(dst []byte) []byte { return appendOption(dst, 1, s.asks) }
func (s *script) listen()                   {}
func (s *script) missing(dst []byte) []byte { return dst }
func (s *script) naked(o option)            { s.asks = o.value[0] }
func (s *script) rejected(o option)         { s.told = append(s.told, "rejected") }
func (s *script) up(time.Time)              { s.told = append(s.told, "up") }
func (s *script) down(time.Time)            { s.told = append(s.told, "down") }
func (s *script) finished(time.Time)        { s.told = append(s.told, "finished") }
func (s *script) consider(o option) (verdict, []byte) {
	switch o.kind {
	case 1:
		return take, nil
	case 2:
		return nak, []byte{9}
	}
	return reject, nil
}

// newMachine returns a machine and what it sends, one line for each packet.
func newMachine() (*machine, *script, *[]string) {
	s, sent := &script{}, &[]string{}
	m := &machine{
		name: "test", layer: s, timers: Timers{}.withDefaults(), mru: func() int { return 1500 },
		send: func(_ uint16, p packet) {
			*sent = append(*sent, fmt.Sprintf("%d %d %x", p.code, p.id, p.data))
		},
	}
	return m, s, sent
}

// What a machine sends for what it gets, packet by packet.
func TestMachine(t *testing.T) {
	now := time.Unix(0, 0)
	const request = "\x01\x03\x00" // what we ask for
	type step struct {
		in   packet
		sent string // all that it sends, separated by commas
		to   state
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"both take what the other asks", []step{
			{packet{confReq, 7, []byte("\x01\x03\x05")}, "2 7 010305", ackSent},
			{packet{confAck, 1, []byte(request)}, "", opened},
		}},
		{"a reject goes before a nak", []step{
			{packet{confReq, 7, []byte("\x01\x03\x05\x02\x03\x05\x04\x02\x05\x03\x01")}, "4 7 0402050301", reqSent},
			{packet{confReq, 8, []byte("\x01\x03\x05\x02\x03\x05")}, "3 8 020309", reqSent},
		}},
		{"an ack of other octets is none", []step{
			{packet{confAck, 1, []byte("\x01\x03\x01")}, "", reqSent},
			{packet{confAck, 2, []byte(request)}, "", reqSent},
			{packet{confAck, 1, []byte(request)}, "", ackRcvd},
		}},
		{"the second ack is the retransmission's", []step{
			{packet{confAck, 1, []byte(request)}, "", ackRcvd},
			{packet{confAck, 1, []byte(request)}, "", ackRcvd},
			{packet{confReq, 7, nil}, "2 7 ", opened},
			{packet{confAck, 1, []byte(request)}, "", opened},
		}},
		{"a nak teaches; the request gets another identifier", []step{
			{packet{confNak, 1, []byte("\x01\x03\x04")}, "1 2 010304", reqSent},
			{packet{confAck, 1, []byte(request)}, "", reqSent},
			{packet{confAck, 2, []byte("\x01\x03\x04")}, "", ackRcvd},
		}},
		{"a reject of what was not asked is none", []step{
			{packet{confRej, 1, []byte("\x01\x03\x04")}, "", reqSent},
			{packet{confRej, 1, []byte("\x01\x03\x00\x01\x03\x00")}, "", reqSent},
			{packet{confRej, 1, []byte(request)}, "1 2 010300", reqSent},
		}},
		{"options that are none", []step{
			{packet{confReq, 7, []byte("\x01\x00\x00")}, "", reqSent},
			{packet{confReq, 7, []byte("\x01\x01")}, "", reqSent},
			{packet{confReq, 7, []byte("\x01\x04\x00")}, "", reqSent},
			{packet{confReq, 7, []byte("\x01")}, "", reqSent},
			{packet{confNak, 1, []byte("\x01\xff\x00")}, "", reqSent},
		}},
		{"a code that nobody knows", []step{
			{packet{99, 7, []byte("xy")}, "7 2 630700067879", reqSent},
		}},
		{"its rejection", []step{
			{packet{codeRej, 7, []byte{99, 1, 0, 4}}, "", reqSent},
			{packet{codeRej, 7, []byte{confReq, 1, 0, 4}}, "", stopped},
		}},
		{"a peer that says goodbye before it began", []step{
			{packet{termReq, 7, nil}, "6 7 ", reqSent},
		}},
		{"a peer that starts anew", []step{
			{packet{confReq, 7, nil}, "2 7 ", ackSent},
			{packet{confAck, 1, []byte(request)}, "", opened},
			{packet{confReq, 1, nil}, "1 2 010300,2 1 ", ackSent},
			{packet{confAck, 2, []byte(request)}, "", opened},
			{packet{termReq, 9, nil}, "6 9 ", stopping},
			{packet{termReq, 9, nil}, "6 9 ", stopping},
		}},
	}
	for _, tt := range tests {
		m, _, sent := newMachine()
		m.step(open, now)
		m.step(up, now)
		*sent = nil
		for i, s := range tt.steps {
			m.receive(s.in, now)
			if got := strings.Join(*sent, ","); got != s.sent || m.state != s.to {
				t.Errorf("%s: step %d: sent %q in %s, want %q in %s", tt.name, i, got, m.state, s.sent, s.to)
			}
			*sent = nil
		}
	}
}

// A request is repeated as it is, MaxConfigure times in all.
func TestMachineRetransmits(t *testing.T) {
	now := time.Unix(0, 0)
	m, s, sent := newMachine()
	m.step(open, now)
	m.step(up, now)
	for m.state == reqSent {
		if m.deadline != now.Add(3*time.Second) {
			t.Fatalf("the timer is set to %v", m.deadline.Sub(now))
		}
		now = m.deadline
		m.timeout(now)
	}
	if got := strings.Join(*sent, ","); got != strings.Repeat("1 1 010300,", 9)+"1 1 010300" {
		t.Errorf("sent %s", got)
	}
	if m.state != stopped || strings.Join(s.told, " ") != "begin finished" {
		t.Errorf("%s after %q", m.state, s.told)
	}
}

// Naks do not go on for ever, on either side.
func TestMachineMaxFailure(t *testing.T) {
	now := time.Unix(0, 0)
	m, s, sent := newMachine()
	m.step(open, now)
	m.step(up, now)
	for i := range 11 {
		*sent = nil
		m.receive(packet{confReq, byte(i), []byte("\x02\x03\x05")}, now)
		want := fmt.Sprintf("3 %d 020309", i)
		if i == 10 {
			want = fmt.Sprintf("4 %d 020305", i)
		}
		if got := strings.Join(*sent, ","); got != want {
			t.Errorf("answer %d: %s, want %s", i, got, want)
		}
	}
	for range 11 {
		s.told = nil
		m.receive(packet{confNak, m.asked, []byte("\x01\x03\x07")}, now)
	}
	if strings.Join(s.told, " ") != "rejected" {
		t.Errorf("after 11 Naks the layer was told %q", s.told)
	}
}

// No answer is longer than the peer takes.
func TestMachineKeepsToMRU(t *testing.T) {
	now := time.Unix(0, 0)
	m, _, _ := newMachine()
	m.mru = func() int { return 128 }
	longest := 0
	m.send = func(_ uint16, p packet) { longest = max(longest, headerLen+len(p.data)) }
	m.step(open, now)
	m.step(up, now)
	var options []byte
	for kind := range byte(200) {
		options = appendOption(options, 10+kind, make([]byte, int(kind))...)
	}
	m.receive(packet{confReq, 1, options}, now)
	if longest == 0 {
		t.Error("no answer")
	}
	m.receive(packet{confReq, 2, appendOption(nil, 10, make([]byte, 250)...)}, now)
	m.receive(packet{99, 3, options}, now)
	if longest > 128 {
		t.Errorf("an answer of %d octets", longest)
	}
}
