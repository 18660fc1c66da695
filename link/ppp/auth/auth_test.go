package auth

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
)

var protocols = []Protocol{PAP, CHAP, MSCHAPv2}

// secrets is a SecretFunc of lines "client server secret".
func secrets(lines ...string) SecretFunc {
	return func(client, server string) ([]byte, bool) {
		for _, line := range lines {
			if rest, ok := strings.CutPrefix(line, client+" "+server+" "); ok {
				return []byte(rest), true
			}
		}
		return nil, false
	}
}

// steady gives the same octets in every run, and no two alike for long.
func steady() io.Reader { return rand.NewChaCha8([32]byte{1}) }

// A machine is what both sides have in common.
type machine interface {
	Start() []byte
	Receive([]byte) ([]byte, Verdict)
	Timeout() ([]byte, Verdict)
	Verdict() Verdict
	Reason() string
}

var _, _ machine = (*Prover)(nil), (*Authenticator)(nil)

// converse carries packets between two machines until nothing is under way and
// both have a verdict, or time has passed rounds times without bringing one.
// lost, if not nil, says which packets do not arrive, counted from 0 for each
// receiver. It returns all that was sent.
func converse(a, b machine, rounds int, lost func(n int, to machine) bool) (sent [][]byte) {
	type letter struct {
		to     machine
		packet []byte
	}
	var way []letter
	post := func(to machine, packet []byte) {
		if packet != nil {
			sent = append(sent, bytes.Clone(packet))
			way = append(way, letter{to, packet})
		}
	}
	count := map[machine]int{}
	post(b, a.Start())
	post(a, b.Start())
	for {
		for len(way) > 0 {
			l := way[0]
			way = way[1:]
			n := count[l.to]
			count[l.to]++
			if lost != nil && lost(n, l.to) {
				continue
			}
			answer, _ := l.to.Receive(l.packet)
			if l.to == a {
				post(b, answer)
			} else {
				post(a, answer)
			}
		}
		if rounds--; rounds < 0 || a.Verdict() != Pending && b.Verdict() != Pending {
			return sent
		}
		again, _ := a.Timeout()
		post(b, again)
		again, _ = b.Timeout()
		post(a, again)
	}
}

func TestBothSides(t *testing.T) {
	for _, test := range []struct {
		what           string
		proves, judges SecretFunc
		server, remote string // the names that each side has for the other
		prover         Verdict
		asked          Verdict
		why            string // in the Prover's reason, or the Authenticator's where that is Failure
	}{
		{"right", secrets("me gw sesame"), secrets("me gw sesame"), "gw", "", Success, Success, "takes us for \"me\""},
		{"right, empty", secrets("me gw "), secrets("me gw "), "gw", "", Success, Success, "takes us for \"me\""},
		{"wrong", secrets("me gw sesam"), secrets("me gw sesame"), "gw", "", Failure, Failure, `"me" does not know the secret that it has at "gw"`},
		{"empty for a secret", secrets("me gw "), secrets("me gw sesame"), "gw", "", Failure, Failure, `"me" does not know`},
		{"a secret for empty", secrets("me gw sesame"), secrets("me gw "), "gw", "", Failure, Failure, `"me" does not know`},
		{"unknown name", secrets("me gw sesame"), secrets("you gw sesame"), "gw", "", Failure, Failure, `no secret for "me" at "gw"`},
		{"decoy", secrets("me gw " + string(decoy)), nil, "gw", "", Failure, Failure, `no secret for "me" at "gw"`},
		{"nothing to prove with", nil, secrets("me gw sesame"), "gw", "", Failure, Pending, `no secret for "me" at "gw"`},
		{"server by another name", secrets("me isp sesame"), secrets("me gw sesame"), "isp", "", Success, Success, "takes us for \"me\""},
	} {
		for _, p := range protocols {
			t.Run(fmt.Sprintf("%v/%s", p, test.what), func(t *testing.T) {
				a := NewAuthenticator(p, "gw", test.remote, test.judges, steady())
				m := NewProver(p, "me", test.server, test.proves, steady())
				converse(m, a, 3, nil)
				if m.Verdict() != test.prover || a.Verdict() != test.asked {
					t.Fatalf("the prover has %v (%s), the authenticator %v (%s)", m.Verdict(), m.Reason(), a.Verdict(), a.Reason())
				}
				reason := m.Reason()
				if test.asked == Failure {
					reason = a.Reason()
				}
				if !strings.Contains(reason, test.why) {
					t.Errorf("the reason is %q, without %q", reason, test.why)
				}
				if want := map[Verdict]string{Success: "me"}[test.asked]; a.Peer() != want {
					t.Errorf("the name proved is %q, not %q", a.Peer(), want)
				}
			})
		}
	}
}

// What each side says, octet by octet.
func TestPackets(t *testing.T) {
	for _, test := range []struct {
		protocol Protocol
		secret   string // of the prover; the authenticator's is "abc"
		want     []string
	}{
		{PAP, "abc", []string{
			"01 01 000b 02 6d65 03 616263",
			"02 01 000d 08 4c6f67696e206f6b"}},
		{PAP, "x", []string{
			"01 01 0009 02 6d65 01 78",
			"03 01 0014 0f 4c6f67696e20696e636f7272656374"}},
		{CHAP, "abc", []string{
			"01 41 0017 10 42434445464748494a4b4c4d4e4f5051 6777",
			"02 41 0017 10 6509dd58a14ac430a907c20a4e2773e2 6d65",
			"03 41 0012 416363657373206772616e746564"}},
		{CHAP, "x", []string{
			"01 41 0017 10 42434445464748494a4b4c4d4e4f5051 6777",
			"02 41 0017 10 ced1eb6e7871c00801a7846230ea0423 6d65",
			"04 41 0011 4163636573732064656e696564"}},
		{MSCHAPv2, "x", []string{
			"01 41 0017 10 42434445464748494a4b4c4d4e4f5051 6777",
			"02 41 0038 31 4142434445464748494a4b4c4d4e4f50 0000000000000000 9053cfd80d89c5bd54c422468a86a5c7c263079cc8791175 00 6d65",
			"04 41 0044 453d36393120523d3020433d" + fmt.Sprintf("%X", "42434445464748494A4B4C4D4E4F5051") + "20563d33204d3d4163636573732064656e696564"}},
	} {
		alphabet := func() io.Reader { return strings.NewReader("ABCDEFGHIJKLMNOPQRSTUVWXYZ") }
		m := NewProver(test.protocol, "me", "", secrets("me  "+test.secret, "me gw "+test.secret), alphabet())
		a := NewAuthenticator(test.protocol, "gw", "", secrets("me gw abc"), alphabet())
		got := converse(m, a, 0, nil)
		if len(got) != len(test.want) {
			t.Errorf("%v: %d packets, not %d: %x", test.protocol, len(got), len(test.want), got)
			continue
		}
		for i, want := range test.want {
			if string(got[i]) != string(unhex(t, want)) {
				t.Errorf("%v: packet %d is %x, not %s", test.protocol, i, got[i], want)
			}
		}
	}
}

// Any one or two packets each way may be lost; the end is the same.
func TestLostPackets(t *testing.T) {
	for _, p := range protocols {
		for mask := range 1 << 6 {
			a := NewAuthenticator(p, "gw", "", secrets("me gw sesame"), steady())
			m := NewProver(p, "me", "gw", secrets("me gw sesame"), steady())
			converse(m, a, 9, func(n int, to machine) bool {
				shift := 0
				if to == machine(a) {
					shift = 3
				}
				return n < 3 && mask>>(shift+n)&1 != 0
			})
			if m.Verdict() != Success || a.Verdict() != Success {
				t.Errorf("%v, losses %06b: %s; %s", p, mask, m.Reason(), a.Reason())
			}
		}
	}
}

func TestNoAnswerAtAll(t *testing.T) {
	for _, p := range protocols {
		for _, max := range []int{0, 3} {
			m, a := NewProver(p, "me", "gw", secrets("me gw sesame"), steady()), NewAuthenticator(p, "gw", "", nil, steady())
			m.MaxTries, a.MaxTries = max, max
			asks, other := machine(a), machine(m)
			if p == PAP {
				asks, other = m, a
			}
			sent := converse(m, a, 20, func(int, machine) bool { return true })
			if len(sent) != tries(max) {
				t.Errorf("%v: %d packets sent, not %d", p, len(sent), tries(max))
			}
			if asks.Verdict() != Failure || !strings.Contains(asks.Reason(), fmt.Sprint(tries(max))) {
				t.Errorf("%v: verdict %v, %s", p, asks.Verdict(), asks.Reason())
			}
			if other.Verdict() != Pending || other.Reason() == "" {
				t.Errorf("%v: the side that waits has %v, %s", p, other.Verdict(), other.Reason())
			}
			if p == PAP && sent[0][1] == sent[1][1] {
				t.Error("pap: two requests with one Identifier")
			}
			if p != PAP && !bytes.Equal(sent[0], sent[1]) {
				t.Errorf("%v: a challenge repeated is another challenge", p)
			}
		}
	}
}

// A Success may be lost: the response comes again, and then no more.
func TestResponseRepeated(t *testing.T) {
	for _, p := range []Protocol{CHAP, MSCHAPv2} {
		m := NewProver(p, "me", "", secrets("me gw sesame"), steady())
		m.MaxTries = 4
		challenge := NewAuthenticator(p, "gw", "", nil, steady()).Start()
		first, _ := m.Receive(challenge)
		for range 3 {
			if again, v := m.Timeout(); v != Pending || !bytes.Equal(again, first) {
				t.Fatalf("%v: after a restart period %x, %v", p, again, v)
			}
		}
		if again, v := m.Timeout(); again != nil || v != Failure {
			t.Errorf("%v: after four tries %x, %v", p, again, v)
		}
	}
}

// Whatever comes a second time gets the first answer again, whichever that was,
// and another answer to the same challenge gets no second judgement.
func TestRepeated(t *testing.T) {
	for _, p := range protocols {
		for _, secret := range []string{"sesame", "guess"} {
			a := NewAuthenticator(p, "gw", "", secrets("me gw sesame"), steady())
			m := NewProver(p, "me", "gw", secrets("me gw "+secret), steady())
			request := m.Start()
			if challenge := a.Start(); challenge != nil {
				request, _ = m.Receive(challenge)
				if again, _ := m.Receive(challenge); !bytes.Equal(again, request) {
					t.Errorf("%v: a repeated challenge got %x, then %x", p, request, again)
				}
			}
			answer, verdict := a.Receive(request)
			if again, v := a.Receive(request); v != verdict || !bytes.Equal(again, answer) {
				t.Errorf("%v, %s: a repetition got %x, %v after %x, %v", p, secret, again, v, answer, verdict)
			}
			// The same in the guise of the other outcome.
			other := NewProver(p, "me", "gw", secrets("me gw "+map[string]string{"sesame": "guess", "guess": "sesame"}[secret]), steady())
			second := other.Start()
			if second == nil {
				second, _ = other.Receive(a.sent)
			}
			if again, v := a.Receive(second); v != verdict || again[0] != answer[0] {
				t.Errorf("%v, %s: a second try got %x, %v after %x, %v", p, secret, again, v, answer, verdict)
			}
			if _, v := m.Receive(answer); v != verdict {
				t.Errorf("%v, %s: the prover has %v of %x", p, secret, v, answer)
			}
			for _, code := range []byte{2, 3, 4} {
				forged := bytes.Clone(answer)
				forged[0] = code
				if send, v := m.Receive(forged); v != verdict || send != nil {
					t.Errorf("%v, %s: code %d after the verdict: %x, %v", p, secret, code, send, v)
				}
			}
		}
	}
}

// A name that nobody has is told from a wrong secret by nothing that is sent.
func TestUnknownLooksWrong(t *testing.T) {
	for _, p := range protocols {
		var answers []string
		for _, known := range []SecretFunc{secrets("me gw sesame"), nil} {
			a := NewAuthenticator(p, "gw", "", known, steady())
			m := NewProver(p, "me", "gw", secrets("me gw guess"), steady())
			sent := converse(m, a, 0, nil)
			answers = append(answers, string(sent[len(sent)-1]))
		}
		if answers[0] != answers[1] {
			t.Errorf("%v: wrong secret %x, unknown name %x", p, answers[0], answers[1])
		}
	}
}

func TestRecheck(t *testing.T) {
	for _, p := range []Protocol{CHAP, MSCHAPv2} {
		t.Run(p.String(), func(t *testing.T) {
			secret := "sesame"
			m := NewProver(p, "me", "", func(string, string) ([]byte, bool) { return []byte(secret), true }, steady())
			a := NewAuthenticator(p, "gw", "", secrets("me gw sesame", "you gw sesame"), steady())
			if a.Recheck() != nil {
				t.Fatal("a recheck before the first check")
			}
			converse(m, a, 0, nil)
			seen := []string{string(a.challenge)}
			for range 300 { // more than there are Identifiers
				challenge := a.Recheck()
				if slices.Contains(seen, string(a.challenge)) {
					t.Fatal("a challenge comes twice")
				}
				seen = append(seen, string(a.challenge))
				if a.Recheck() != nil {
					t.Fatal("a second challenge before the answer to the first")
				}
				response, v := m.Receive(challenge)
				if v != Success {
					t.Fatalf("while we are asked again: %v", v)
				}
				success, v := a.Receive(response)
				if v != Success {
					t.Fatalf("asked again: %v", a.Reason())
				}
				if _, v := m.Receive(success); v != Success {
					t.Fatalf("asked again: %v", m.Reason())
				}
			}

			// A peer that becomes another fails, however well it proves that.
			you := *a
			other := NewProver(p, "you", "", secrets("you gw sesame"), steady())
			response, _ := other.Receive(you.Recheck())
			if _, v := you.Receive(response); v != Failure || you.Peer() != "" {
				t.Errorf("a peer of another name: %v, %s", v, you.Reason())
			}

			// One that no longer answers fails too.
			silent := *a
			silent.Recheck()
			for range 9 {
				if _, v := silent.Timeout(); v != Success {
					t.Fatalf("waiting for an answer: %v", v)
				}
			}
			if _, v := silent.Timeout(); v != Failure {
				t.Errorf("no answer: %v", v)
			}
			if late, v := silent.Receive(response); late != nil || v != Failure {
				t.Errorf("an answer when it was too late: %x, %v", late, v)
			}

			// And one that has forgotten the secret.
			secret = "oblivion"
			response, _ = m.Receive(a.Recheck())
			failure, v := a.Receive(response)
			if v != Failure {
				t.Errorf("a wrong answer: %v", v)
			}
			if _, v := m.Receive(failure); v != Failure {
				t.Errorf("told of a wrong answer: %v", v)
			}
		})
	}
}

// A prover that no longer hears the verdict on a recheck lives on: it is proved.
func TestRecheckUnanswered(t *testing.T) {
	m, a := NewProver(CHAP, "me", "", secrets("me gw x"), nil), NewAuthenticator(CHAP, "gw", "", secrets("me gw x"), nil)
	converse(m, a, 0, nil)
	m.Receive(a.Recheck())
	for range 20 {
		if _, v := m.Timeout(); v != Success {
			t.Fatalf("%v: %s", v, m.Reason())
		}
	}
	if send, _ := m.Timeout(); send != nil {
		t.Error("the response is repeated without end")
	}
}

// A reflection: one secret both ways, and a peer that knows nothing but has us
// answer our own challenge.
func TestReflection(t *testing.T) {
	for _, p := range []Protocol{CHAP, MSCHAPv2} {
		both := func(string, string) ([]byte, bool) { return []byte("sesame"), true }
		for _, guarded := range []bool{false, true} {
			a, m := NewAuthenticator(p, "me", "", both, steady()), NewProver(p, "me", "", both, steady())
			if guarded {
				m.Beware(a)
			}
			challenge := bytes.Clone(a.Start())
			response, v := m.Receive(challenge)
			if !guarded {
				if _, v := a.Receive(response); v != Success {
					t.Fatalf("%v: the attack itself does not work: %v", p, a.Reason())
				}
				continue
			}
			if response != nil || v != Failure {
				t.Errorf("%v: our own challenge got %x, %v", p, response, v)
			}
			challenge[1]++ // the same in disguise
			if response, _ := m.Receive(challenge); response != nil {
				t.Errorf("%v: our own challenge under another Identifier got %x", p, response)
			}
		}
	}
}

// An MS-CHAPv2 peer that says Success must know the secret as well.
func TestMutual(t *testing.T) {
	m := NewProver(MSCHAPv2, "me", "", secrets("me gw sesame"), steady())
	response, _ := m.Receive(NewAuthenticator(MSCHAPv2, "gw", "", nil, steady()).Start())
	for _, text := range []string{"", "Welcome", "S=407A5589115FD0D6209F510FE9C04566932CDA56 M=Welcome"} {
		fresh := *m
		if _, v := fresh.Receive(packet{chapSuccess, response[1], []byte(text)}.encode()); v != Failure {
			t.Errorf("Success with %q: %v", text, v)
		}
	}
}

// Packets of the wrong shape, or at the wrong time, change nothing and are not
// forgotten when the time is over.
func TestIgnored(t *testing.T) {
	secret := secrets("me gw sesame")
	for _, test := range []struct {
		what   string
		side   machine
		packet string
		why    string
	}{
		{"too short", NewProver(PAP, "me", "gw", secret, nil), "02 01 00", "a false length"},
		{"length too long", NewProver(PAP, "me", "gw", secret, nil), "02 01 0009 00", "a false length"},
		{"length below 4", NewProver(PAP, "me", "gw", secret, nil), "02 01 0003 00", "a false length"},
		{"a strange Ack", NewProver(PAP, "me", "gw", secret, nil), "02 02 0005 00", "0x2"},
		{"no value", NewProver(CHAP, "me", "gw", secret, nil), "01 01 0004", "without a value"},
		{"an empty value", NewProver(CHAP, "me", "gw", secret, nil), "01 01 0005 00", "without a value"},
		{"a value cut off", NewProver(CHAP, "me", "gw", secret, nil), "01 01 0006 02 41", "without a value"},
		{"a value too short", NewProver(MSCHAPv2, "me", "gw", secret, nil), "01 01 0006 01 41", "1 octets"},
		{"Success for nothing", NewProver(CHAP, "me", "gw", secret, nil), "03 00 0004", "no challenge"},
		{"no name", NewAuthenticator(PAP, "gw", "", secret, nil), "01 01 0004", "cut off"},
		{"a name cut off", NewAuthenticator(PAP, "gw", "", secret, nil), "01 01 0006 02 6d", "cut off"},
		{"no password", NewAuthenticator(PAP, "gw", "", secret, nil), "01 01 0007 02 6d65", "cut off"},
		{"a strange response", NewAuthenticator(CHAP, "gw", "", secret, strings.NewReader("ABCDEFGHIJKLMNOPQ")), "02 40 0005 00", "no challenge of ours"},
		{"a response cut off", NewAuthenticator(CHAP, "gw", "", secret, strings.NewReader("ABCDEFGHIJKLMNOPQ")), "02 41 0005 01", "cut off"},
		{"another code", NewAuthenticator(CHAP, "gw", "", secret, nil), "05 41 0004", "not answered 1"},
	} {
		test.side.Start()
		send, v := test.side.Receive(unhex(t, test.packet))
		if send != nil || v != Pending || !strings.Contains(test.side.Reason(), test.why) {
			t.Errorf("%s: %x, %v, %s", test.what, send, v, test.side.Reason())
		}
	}
}

// PAP's answers as some peers send them.
func TestPAPMessage(t *testing.T) {
	for _, test := range []struct {
		packet, said string
		v            Verdict
	}{
		{"02 01 0004", `takes us for "me"`, Success},
		{"02 01 0005 00", `takes us for "me"`, Success},
		{"02 01 0007 02 6869", `saying "hi"`, Success},
		{"02 01 0006 6869", `saying "hi"`, Success},
		{"02 01 0007 02 6869 aabb", `saying "hi"`, Success}, // padded
		{"03 01 0008 03 1b5b4a", `saying "?[J"`, Failure},
	} {
		m := NewProver(PAP, "me", "", secrets("me  sesame"), nil)
		m.Start()
		if _, v := m.Receive(unhex(t, test.packet)); v != test.v || !strings.HasSuffix(m.Reason(), test.said) {
			t.Errorf("%s: %v, %s", test.packet, v, m.Reason())
		}
	}
}

// An answer to the first request, come after the second, is as good.
func TestLateAck(t *testing.T) {
	m := NewProver(PAP, "me", "", secrets("me  sesame"), nil)
	m.Start()
	m.Timeout()
	if _, v := m.Receive([]byte{papAck, 1, 0, 4}); v != Success {
		t.Errorf("%v: %s", v, m.Reason())
	}
}

func TestNames(t *testing.T) {
	long := strings.Repeat("n", 256)
	for _, test := range []struct {
		what         string
		name, remote string
		want         map[Protocol]string // the name asked for; absent: none
	}{
		{"as it is", "me", "", map[Protocol]string{PAP: "me", CHAP: "me", MSCHAPv2: "me"}},
		{"as we call it", "me", "you", map[Protocol]string{PAP: "me", CHAP: "you", MSCHAPv2: "you"}},
		{"none", "", "you", map[Protocol]string{PAP: "you", CHAP: "you", MSCHAPv2: "you"}},
		{"none at all", "", "", map[Protocol]string{PAP: "", CHAP: "", MSCHAPv2: ""}},
		{"a domain", `CORP\me`, "", map[Protocol]string{PAP: `CORP\me`, CHAP: `CORP\me`, MSCHAPv2: `CORP\me`}},
		{"a control", "me\x1b", "", nil},
		{"a NUL", "me\x00", "", nil},
		{"a space behind", "me ", "", nil},
		{"not UTF-8", "m\xfc", "", nil},
		{"too long", long, "", nil},
	} {
		for _, p := range protocols {
			var asked []string
			a := NewAuthenticator(p, "gw", test.remote, func(client, server string) ([]byte, bool) {
				asked = append(asked, client)
				return []byte("sesame"), server == "gw"
			}, steady())
			m := NewProver(p, test.name[:min(len(test.name), maxName)], "gw", func(string, string) ([]byte, bool) { return []byte("sesame"), true }, steady())
			if test.name == long {
				if p == PAP {
					continue // it has no room for such a name
				}
				m.name = long[:maxName]
			}
			request := m.Start()
			if request == nil {
				request, _ = m.Receive(a.Start())
			}
			if test.name == long {
				request = append(request, 'n')
				request[3]++
				if request[3] == 0 {
					request[2]++
				}
			}
			_, v := a.Receive(request)
			want, ok := test.want[p]
			if ok != (v == Success) || ok && (a.Peer() != want || !slices.Equal(asked, []string{want})) || !ok && asked != nil {
				t.Errorf("%v, %s: %v, asked for %q, proved %q", p, test.what, v, asked, a.Peer())
			}
			if reason := a.Reason(); carrier.Printable(reason) != reason {
				t.Errorf("%v, %s: %q", p, test.what, reason)
			}
		}
	}
}

// Our own names and secrets must fit.
func TestOurOwnTooLong(t *testing.T) {
	long := strings.Repeat("n", 256)
	any := func(string, string) ([]byte, bool) { return []byte(long), true }
	for _, p := range protocols {
		m := NewProver(p, long, "gw", any, nil)
		a := NewAuthenticator(p, long, "", any, nil)
		if p == PAP {
			m.name = "me"
			if m.Start() != nil || m.Verdict() != Failure {
				t.Error("pap: a password of 256 octets")
			}
			continue
		}
		if a.Start() != nil || a.Verdict() != Failure {
			t.Errorf("%v: a challenge from a name of 256 octets", p)
		}
		if send, v := m.Receive(NewAuthenticator(p, "gw", "", any, nil).Start()); send != nil || v != Failure {
			t.Errorf("%v: a response from a name of 256 octets", p)
		}
	}
}

func TestNothingRandom(t *testing.T) {
	none := strings.NewReader("")
	a := NewAuthenticator(CHAP, "gw", "", nil, none)
	if a.Start() != nil || a.Verdict() != Failure || !strings.Contains(a.Reason(), io.EOF.Error()) {
		t.Errorf("a challenge of nothing: %s", a.Reason())
	}
	m := NewProver(MSCHAPv2, "me", "gw", secrets("me gw x"), none)
	if send, v := m.Receive(NewAuthenticator(MSCHAPv2, "gw", "", nil, nil).Start()); send != nil || v != Failure {
		t.Errorf("a response without a challenge of ours: %x, %v", send, v)
	}
}

func TestOptions(t *testing.T) {
	for _, test := range []struct {
		data string
		p    Protocol
	}{
		{"c023", PAP}, {"c22305", CHAP}, {"c22381", MSCHAPv2},
		{"", 0}, {"c0", 0}, {"c02305", 0}, {"c223", 0}, {"c22380", 0}, {"c2230500", 0}, {"c227", 0},
	} {
		data := unhex(t, test.data)
		p, ok := ParseOption(data)
		if p != test.p || ok != (test.p != 0) {
			t.Errorf("%s is %v, %v", test.data, p, ok)
		}
		if ok && (!bytes.Equal(p.Option(), data) || p.Number()>>8 != uint16(data[0]) || byte(p.Number()) != data[1]) {
			t.Errorf("%v asks by %x, and travels as %x", p, p.Option(), p.Number())
		}
	}
}

// A response is of one size, whatever it begins with.
func TestResponseSize(t *testing.T) {
	for _, p := range []Protocol{CHAP, MSCHAPv2} {
		for _, more := range []int{-1, 1} {
			a := NewAuthenticator(p, "gw", "", secrets("me gw sesame"), steady())
			response, _ := NewProver(p, "me", "", secrets("me gw sesame"), steady()).Receive(a.Start())
			r, _ := parsePacket(response)
			value, _, _ := parseValue(r.data)
			value = append(bytes.Clone(value), 0)[:len(value)+more]
			r.data = append(appendValue(nil, value), "me"...)
			if _, v := a.Receive(r.encode()); v != Failure {
				t.Errorf("%v: a response of %d octets: %v", p, len(value), v)
			}
		}
	}
}

// A verdict on another response is none on ours.
func TestStrangeVerdict(t *testing.T) {
	m := NewProver(CHAP, "me", "", secrets("me gw sesame"), nil)
	response, _ := m.Receive(NewAuthenticator(CHAP, "gw", "", nil, nil).Start())
	for _, code := range []byte{chapSuccess, chapFailure} {
		if _, v := m.Receive([]byte{code, response[1] + 1, 0, 4}); v != Pending {
			t.Errorf("code %d for another Identifier: %v", code, v)
		}
	}
}

// What a machine returned stays as it is.
func TestSentIsNotChanged(t *testing.T) {
	m := NewProver(PAP, "me", "", secrets("me  sesame"), nil)
	first := m.Start()
	before := bytes.Clone(first)
	m.Timeout()
	if !bytes.Equal(first, before) {
		t.Errorf("%x became %x", before, first)
	}
}

// A prover that failed, or was failed, says no more.
func TestSilentAfterFailure(t *testing.T) {
	m := NewProver(CHAP, "me", "", secrets("me gw sesame"), steady())
	a := NewAuthenticator(CHAP, "gw", "", secrets("me gw sesam"), steady())
	converse(m, a, 0, nil)
	other := NewAuthenticator(CHAP, "gw", "", nil, nil)
	if send, v := m.Receive(other.Start()); send != nil || v != Failure {
		t.Errorf("a challenge after a failure: %x, %v", send, v)
	}
	if send, v := m.Timeout(); send != nil || v != Failure {
		t.Errorf("a timeout after a failure: %x, %v", send, v)
	}
}

// What SLiRP 1.0.17 (slirp-fullbolt), called vm, said and took with the secret
// "sesame".
func TestSLiRP(t *testing.T) {
	random := append([]byte{0x71}, unhex(t, "f08379901c5761df6dd0ea7abfde637f")...)
	a := NewAuthenticator(CHAP, "me", "", secrets("vm me sesame"), bytes.NewReader(random))
	a.Start()
	if _, v := a.Receive(unhex(t, "02 71 0017 10 7fe25a087cfbc4e20f95de28348250c7 766d")); v != Success || a.Peer() != "vm" {
		t.Errorf("its response: %v, %s", v, a.Reason())
	}

	m := NewProver(CHAP, "me", "", secrets("me vm sesame"), nil)
	response, _ := m.Receive(unhex(t, "01 01 003d 36 ea51db85b318a89e8c7dc627d9ec9013271aa0c68df2e4051ba3c42245f394670467d6aa5750a5be9de88a4db75c69cb5a749c06c576 766d"))
	if want := unhex(t, "02 01 0017 10 98a5b055ad219444a568aadaf5a0a2ee 6d65"); !bytes.Equal(response, want) {
		t.Errorf("the response that it took is %x, not %x", want, response)
	}
	if _, v := m.Receive(append([]byte{chapSuccess, 1, 0, 18}, "Welcome to vm."...)); v != Success {
		t.Errorf("its Success: %v, %s", v, m.Reason())
	}
}
