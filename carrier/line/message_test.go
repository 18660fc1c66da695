package line

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
)

var (
	nonceD = nonce{1, 2, 3, 4, 5, 6, 7, 8}
	nonceA = nonce{9, 10, 11, 12, 13, 14, 15, 16}
)

// messages are one of each kind from each side.
var messages = []struct {
	name    string
	from    side
	m       message
	payload string // hex
	text    string
}{
	{"hello", dialling, message{kind: hello, version: 1, nonce: nonceD},
		"010000 01 0102030405060708", ":AQAAAQECAwQFBgcImRDabVsWcGo="},
	{"hello again, with line ends", dialling, message{kind: hello, attempt: 2, ends: true, ask: true, version: 1, nonce: nonceD},
		"010203 01 0102030405060708", ":AQIDAQECAwQFBgcIAnLwsz8bwnw="},
	{"its answer", accepting, message{kind: hello, version: 1, nonce: nonceA, wish: Armour},
		"010000 01 090a0b0c0d0e0f10 03", ""},
	{"its answer on a terminal", accepting, message{kind: hello, version: 1, nonce: nonceA, set: controls},
		"010000 01 090a0b0c0d0e0f10 00 ffffffff00000000 0000000000000080 0000000000000000 0000000000000000", ""},
	{"head", dialling, message{kind: head, attempt: 3, nonce: nonceD, parts: allParts, ruler: 4200},
		"020300 0102030405060708 0f 1068", ""},
	{"its answer", accepting, message{kind: head, attempt: 3, ruler: 4093, set: between(lf, lf, iac, iac)},
		"020300 0ffd 0004000000000000 0000000000000000 0000000000000000 0000000000000080", ""},
	{"tail", dialling, message{kind: tail, attempt: 3, nonce: nonceD}, "030300 0102030405060708", ""},
	{"its answer", accepting, message{kind: tail, attempt: 3}, "030300", ""},
	{"begin", dialling, message{kind: begin, attempt: 4, ends: true, nonce: nonceD,
		out: route{Escape, true, 72, between(lf, lf, cr, cr)}, in: route{coding: Clean}},
		"040401 0102030405060708 82 0048 0024000000000000 0000000000000000 0000000000000000 0000000000000000 01 0000", ""},
	{"its answer", accepting, message{kind: begin, attempt: 4}, "040400", ":BAQA9UHd3mNZAw0="},
}

func unhex(t *testing.T, text string) []byte {
	b, err := hex.DecodeString(string(bytes.ReplaceAll([]byte(text), []byte(" "), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The messages, octet for octet, and back.
func TestMessages(t *testing.T) {
	for _, tt := range messages {
		payload := tt.m.appendPayload(nil, tt.from)
		if want := unhex(t, tt.payload); !bytes.Equal(payload, want) {
			t.Errorf("%s: payload %x, want %x", tt.name, payload, want)
		}
		text := tt.m.appendText(nil, tt.from, nonceD, nonceA)
		if tt.text != "" && string(text) != tt.text {
			t.Errorf("%s: sent as %q, want %q", tt.name, text, tt.text)
		}
		if len(text) > maxText+2 {
			t.Errorf("%s: %d octets", tt.name, len(text))
		}
		back, ok := parseText(text[1:len(text)-1], tt.from, nonceD, nonceA)
		if !ok || back != tt.m {
			t.Errorf("%s: came as %+v, %v", tt.name, back, ok)
		}
		if _, ok := parseText(text[1:len(text)-1], tt.from.other(), nonceD, nonceA); ok {
			t.Errorf("%s: is taken for the other side's", tt.name)
		}
		if tt.from == accepting {
			if _, ok := parseText(text[1:len(text)-1], tt.from, nonceA, nonceA); ok {
				t.Errorf("%s: is taken for another talk's", tt.name)
			}
		}
		for i := 1; i < len(text)-1; i++ {
			text[i] ^= 1
			if _, ok := parseText(text[1:len(text)-1], tt.from, nonceD, nonceA); ok {
				t.Errorf("%s: is believed with octet %d changed", tt.name, i)
			}
			text[i] ^= 1
		}
	}
}

// A message is found after and before anything, with parity, and with line ends and
// other controls inside of it.
func TestParser(t *testing.T) {
	text := []byte(messages[0].text)
	ways := map[string]func(b byte) []byte{
		"as it is":       func(b byte) []byte { return []byte{b} },
		"with parity":    func(b byte) []byte { return []byte{b | 0x80} },
		"between CRs":    func(b byte) []byte { return []byte{b, cr, lf, 0} },
		"between blanks": func(b byte) []byte { return []byte{' ', b, 0x7f} },
	}
	for name, way := range ways {
		var p parser
		found := 0
		came := []byte(":=::AQ=:A?:AAAA" + string(random(1, 100000)) + "=")
		for _, b := range text {
			came = append(came, way(b)...)
		}
		for _, b := range append(came, "=:A="...) {
			if got, whole := p.push(b); whole {
				if m, ok := parseText(got, dialling, nonce{}, nonceA); ok && m == messages[0].m {
					found++
				}
			}
		}
		if found != 1 {
			t.Errorf("%s: found %d times", name, found)
		}
	}
}

// What is parsed is said in the same words, and only so.
func FuzzMessages(f *testing.F) {
	for _, tt := range messages {
		f.Add(tt.m.appendPayload(nil, tt.from), tt.from == dialling)
	}
	f.Fuzz(func(t *testing.T, payload []byte, isDialler bool) {
		from := accepting
		if isDialler {
			from = dialling
		}
		m, ok := parsePayload(payload, from)
		if !ok {
			return
		}
		if again := m.appendPayload(nil, from); !bytes.Equal(again, payload) {
			t.Fatalf("%x is parsed as %x", payload, again)
		}
		dialler, accepter := nonceD, nonceA
		switch {
		case from == dialling:
			dialler = m.nonce
		case m.kind == hello:
			accepter = m.nonce
		}
		text := m.appendText(nil, from, dialler, accepter)
		if len(text) > maxText+2 {
			t.Fatalf("%d octets", len(text))
		}
		if back, ok := parseText(text[1:len(text)-1], from, dialler, accepter); !ok || back != m {
			t.Fatalf("%+v came as %+v, %v", m, back, ok)
		}
	})
}

// Whatever comes before a message and after, and whatever controls are put into it,
// it is found, if nothing before has begun another in its place.
func FuzzParser(f *testing.F) {
	f.Add([]byte("login: "), []byte("\r\n"), uint64(1))
	f.Add([]byte(":AQAAAQ"), []byte{0, 0x11}, uint64(2))
	f.Fuzz(func(t *testing.T, before, controls []byte, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 0))
		came := append([]byte(nil), before...)
		for _, b := range []byte(messages[0].text) {
			came = append(came, b|byte(r.IntN(2))<<7)
			if len(controls) > 0 {
				if c := controls[r.IntN(len(controls))]; c&0x7f <= ' ' || c&0x7f == 0x7f {
					came = append(came, c)
				}
			}
		}
		var p parser
		found := false
		for _, b := range came {
			text, whole := p.push(b)
			if len(p.text) > maxText {
				t.Fatalf("keeps %d octets", len(p.text))
			}
			if whole {
				if m, ok := parseText(text, dialling, nonce{}, nonceA); ok {
					found = m == messages[0].m
				}
			}
		}
		if !found {
			t.Fatalf("not found in %q", came)
		}
	})
}

// The pattern, octet for octet, and what it proves.
func TestPattern(t *testing.T) {
	try := between(0, 0, 8, 8, lf, lf, cr, cr, xon, xon, xoff, xoff, ' ', '"', 0xa0, 0xa2, iac, iac)
	const sent = "A B!C\"D\xa0E\xa1F\xa2G" + "H\x00I" + "J\nK" + "L\rM" + "N\x11O" + "P\xffQ" +
		"R\r\x00S" + "T\r\nU" + "V\xff\xffW" + "X\x13\x11Y" + "Z\x08a"
	p := newPattern(dialling, try)
	if got := string(p.appendText(nil, false)); got != sent {
		t.Errorf("%q, want %q", got, sent)
	}
	if got := string(newPattern(accepting, between(0, 1)).appendText(nil, false)); got != "_\x00-9\x018" {
		t.Errorf("the other side's is %q", got)
	}
	tests := []struct {
		name  string
		heard func(string) string
		bad   carrier.ByteSet
	}{
		{"all", func(s string) string { return "\r\n"[:0] + s }, carrier.ByteSet{}},
		{"among others", func(s string) string { return "AHEAD=" + s + ":TAIL" }, carrier.ByteSet{}},
		{"NUL eaten", replace("\x00", ""), between(0, 0, cr, cr)},
		{"CR becomes CR NUL", replace("\r", "\r\x00"), between(0, 0, cr, cr)},
		{"CR becomes LF", replace("\r", "\n"), between(cr, cr, lf, lf)},
		{"LF becomes CR LF", replace("\n", "\r\n"), between(cr, cr, lf, lf)},
		{"CR LF becomes LF", replace("\r\n", "\n"), between(cr, cr)},
		{"0xff 0xff becomes one", replace("\xff\xff", "\xff"), between(iac, iac)},
		{"a blank is put in", replace("Y", "Y "), between(' ', ' ')},
		{"flow control", replace("\x11", "", "\x13", ""), between(xon, xon, xoff, xoff)},
		{"XOFF alone is eaten", replace("\x13", ""), between(xoff, xoff)},
		{"bit 7 is taken off", replace("\xa0", " ", "\xa1", "!", "\xa2", "\"", "\xff", "\x7f"), between(' ', '"', 0xa0, 0xa2, iac, iac, 0x7f, 0x7f)},
		{"a rubout works", replace("Z\x08", ""), between(8, 8)},
	}
	for _, tt := range tests {
		if got := p.unsafe([]byte(tt.heard(sent))); got != tt.bad {
			t.Errorf("%s: found %x, want %x", tt.name, got, tt.bad)
		}
	}
	if p.unsafe(newPattern(accepting, try).appendText(nil, false)) == (carrier.ByteSet{}) {
		t.Error("the other side's pattern proves something")
	}
	whole := newPattern(dialling, between(0, 0xff))
	text := whole.appendText(nil, true)
	if whole.cut(text) || whole.cut(text[20:]) || !whole.cut(text[:len(text)/2]) {
		t.Error("a pattern that was cut is not known by it")
	}
	for _, l := range bytes.Split(text, []byte{lf}) {
		if len(l) > shortLine {
			t.Errorf("a line of %d octets", len(l))
		}
	}
}

func replace(pairs ...string) func(string) string {
	return func(s string) string {
		for ; len(pairs) > 0; pairs = pairs[2:] {
			s = string(bytes.ReplaceAll([]byte(s), []byte(pairs[0]), []byte(pairs[1])))
		}
		return s
	}
}

// What begin may not ask of the half that hears it.
func TestRoutes(t *testing.T) {
	lines := between(cr, cr, lf, lf)
	tests := []struct {
		name  string
		r     route
		never carrier.ByteSet
		wish  Coding
		ok    bool
	}{
		{"clean", route{coding: Clean}, carrier.ByteSet{}, Auto, true},
		{"clean, on a terminal", route{coding: Clean}, controls, Auto, false},
		{"no coding", route{}, carrier.ByteSet{}, Auto, false},
		{"no such coding", route{coding: 4}, carrier.ByteSet{}, Auto, false},
		{"escape", route{coding: Escape, unsafe: controls}, controls, Auto, true},
		{"escape of too few", route{coding: Escape, unsafe: lines}, controls, Auto, false},
		{"escape of too many", route{coding: Escape, unsafe: between(0, 0x1f, 0x80, 0xa0)}, carrier.ByteSet{}, Auto, false},
		{"escape of letters", route{coding: Escape, unsafe: between('a', 'b')}, carrier.ByteSet{}, Auto, false},
		{"armour", route{coding: Armour}, controls, Auto, true},
		{"lines", route{coding: Escape, line: 72, ends: true, unsafe: lines}, carrier.ByteSet{}, Auto, true},
		{"lines, on a terminal", route{coding: Armour, line: 72}, controls, Auto, false},
		{"lines as they are", route{coding: Clean, line: 72}, carrier.ByteSet{}, Auto, false},
		{"lines with LF in them", route{coding: Escape, line: 72}, carrier.ByteSet{}, Auto, false},
		{"line ends without a length", route{coding: Armour, ends: true}, carrier.ByteSet{}, Auto, false},
		{"too short", route{coding: Armour, line: 3}, carrier.ByteSet{}, Auto, false},
		{"as insisted on", route{coding: Armour}, carrier.ByteSet{}, Armour, true},
		{"not as insisted on", route{coding: Escape, unsafe: lines}, carrier.ByteSet{}, Armour, false},
	}
	for _, tt := range tests {
		if _, err := tt.r.way(tt.never, tt.wish); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
