package telnet

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A puppet is the other end of a Conn: it says what the test has it say, and keeps
// what it hears.
type puppet struct {
	t     *testing.T
	s     carrier.Stream
	mu    sync.Mutex
	heard bytes.Buffer
	data  bytes.Buffer // what the Conn's Read returned, if read was called
	err   error        // and what it ended with
}

// newPuppet returns the puppet and the Stream to open telnet on. It is for
// synctest.Test.
func newPuppet(t *testing.T) (*puppet, carrier.Stream) {
	near, far := ends()
	p := &puppet{t: t, s: far}
	go p.listen()
	t.Cleanup(func() { far.Close() })
	return p, near
}

func (p *puppet) listen() {
	buf := make([]byte, 4096)
	for {
		n, err := p.s.Read(buf)
		p.mu.Lock()
		p.heard.Write(buf[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// read has c read all the time, as a busy caller does.
func (p *puppet) read(c *Conn) {
	go func() {
		buf := make([]byte, 512)
		for {
			n, err := c.Read(buf)
			p.mu.Lock()
			p.data.Write(buf[:n])
			p.err = err
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	p.t.Cleanup(func() { c.Close() })
}

// say writes octets in the notation of octets.
func (p *puppet) say(what string) {
	p.t.Helper()
	if _, err := p.s.Write(octets(what)); err != nil {
		p.t.Error(err)
	}
}

// hears wants exactly these octets to have come since the last call.
func (p *puppet) hears(want string) {
	p.t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if got := p.heard.Bytes(); !bytes.Equal(got, octets(want)) {
		p.t.Errorf("the client said % x, want % x", got, octets(want))
	}
	p.heard.Reset()
}

const (
	offers    = "fffb18 fffb00 fffb03 fffd00 fffd03" // WILL TTYPE, BINARY, SGA; DO BINARY, SGA
	refusals  = "fffe25 fffe26 fffc20 fffc23 fffc27 fffc24 fffc01 fffc22 fffe05 fffc21 fffc06"
	inetutils = "fffb25 fffb26 fffd20 fffd23 fffd27 fffd24 fffd01 fffd22 fffb05 fffd21 fffd06"
)

// A turn is what the server says, and what the client says to it.
type turn struct{ server, client string }

// TestNegotiation has what is said to each request, in hex as on the wire.
func TestNegotiation(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options Options
		turns   []turn
		modes   Modes
		data    string
	}{
		{"the offers, all agreed to", Options{}, []turn{
			{"", offers},
			{"fffd18 fffd03 fffd00 fffb03 fffb00", ""},
		}, Modes{BinaryIn: true, BinaryOut: true, SGA: true}, ""},
		{"all refused", Options{}, []turn{
			{"", offers},
			{"fffe18 fffe03 fffe00 fffc03 fffc00", ""},
		}, Modes{}, ""},
		{"BINARY from the server only", Options{}, []turn{{"fffb00 fffe00", offers}}, Modes{BinaryIn: true}, ""},
		{"BINARY to the server only", Options{}, []turn{{"fffc00 fffd00", offers}}, Modes{BinaryOut: true}, ""},
		{"BINARY agreed to and ended, as inetutils does before the shell", Options{}, []turn{
			{"fffd00 fffb00", offers},
			{"fffc00", "fffe00"},
			{"fffc00", ""},
		}, Modes{BinaryOut: true}, ""},
		{"BINARY ended and begun again, both ways", Options{}, []turn{
			{"fffd00 fffb00 fffc00 fffe00", offers + "fffe00 fffc00"},
			{"fffb00 fffd00", "fffd00 fffb00"},
		}, Modes{BinaryIn: true, BinaryOut: true}, ""},
		{"a passive client says nothing by itself", Options{Passive: true}, []turn{
			{"'tn-gw-> '", ""},
		}, Modes{}, "'tn-gw-> '"},
		{"and answers", Options{Passive: true}, []turn{
			{"fffb01 fffb03 fffd03", "fffd01 fffd03 fffb03"},
			{"fffb00 fffd00 fffd18", "fffd00 fffb00 fffb18"},
		}, Modes{BinaryIn: true, BinaryOut: true, SGA: true, Echo: true}, ""},
		{"all that is refused, and once", Options{Passive: true}, []turn{
			{inetutils, refusals},
			{inetutils + inetutils, ""},
		}, Modes{}, ""},
		{"what we would have on is agreed to anew each time", Options{Passive: true}, []turn{
			{"fffb01 fffc01 fffb01", "fffd01 fffe01 fffd01"},
		}, Modes{Echo: true}, ""},
		{"saying again what is so changes nothing", Options{Passive: true}, []turn{
			{"fffb01", "fffd01"},
			{"fffb01 fffb01 fffe03 fffc03 fffe2a fffc2a", ""},
		}, Modes{Echo: true}, ""},
		{"the terminal's type, once agreed", Options{Terminal: "vt100", Passive: true}, []turn{
			{"fffa1801fff0", ""},
			{"fffd18", "fffb18"},
			{"fffa1801fff0", "fffa1800 'vt100' fff0"},
			{"fffa1801fff0", "fffa1800 'vt100' fff0"},
			{"fffa1800fff0 fffa180101fff0 fffa18fff0", ""},
			{"fffe18", "fffc18"},
			{"fffa1801fff0", ""},
		}, Modes{}, ""},
		{"no type, no window told", Options{Passive: true}, []turn{
			{"fffd18 fffa1801fff0 fffd1f", "fffb18 fffa1800 'DUMB' fff0 fffb1f fffa1f 0050 0018 fff0"},
		}, Modes{}, ""},
		{"a type that is none", Options{Passive: true, Terminal: "x\xff\xf0"}, []turn{
			{"fffd18 fffa1801fff0", "fffb18 fffa1800 'DUMB' fff0"},
		}, Modes{}, ""},
		{"a window of 255 x 511", Options{Passive: true, Width: 255, Height: 511}, []turn{
			{"fffd1f", "fffb1f fffa1f 00ffff 01ffff fff0"},
			{"fffd1f", ""},
		}, Modes{}, ""},
		{"other subnegotiations, ENVIRON SEND and LINEMODE among them", Options{Passive: true}, []turn{
			{"fffa2701fff0 fffa2401fff0 fffa2001fff0 fffa2301fff0 fffa2201 03fff0 fffa2501fff0 'a'", ""},
		}, Modes{}, "'a'"},
		{"commands are no data", Options{Passive: true}, []turn{
			{"'a' fff1fff2fff3fff4fff5fff6fff7fff8fff9 'b' ffff", ""},
		}, Modes{}, "'ab' ff"},
	} {
		for _, each := range []string{"at once", "one octet each"} {
			t.Run(tt.name+", "+each, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p, s := newPuppet(t)
					c := Open(s, tt.options)
					p.read(c)
					for _, turn := range tt.turns {
						if each == "at once" {
							p.say(turn.server)
						} else {
							for b := range slices.Chunk(octets(turn.server), 1) {
								p.s.Write(b)
							}
						}
						p.hears(turn.client)
					}
					if got := c.Modes(); got != tt.modes {
						t.Errorf("modes %+v, want %+v", got, tt.modes)
					}
					if got := p.data.Bytes(); !bytes.Equal(got, octets(tt.data)) {
						t.Errorf("data % x, want % x", got, octets(tt.data))
					}
				})
			})
		}
	}
}

// TestLog has what people read of a negotiation.
func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPuppet(t)
		var log []string
		c := Open(s, Options{Log: func(line string) { log = append(log, line) }})
		p.read(c)
		p.say("fffd00 fffb00 fffb01 fffd27 fffd27 fffda5 fffd1f fffa1801fff0 fffd18 fffa1801fff0 fffa27'\x1b]0;x'fff0")
		synctest.Wait()
		want := `telnet: we say WILL TTYPE
telnet: we say WILL BINARY
telnet: we say WILL SGA
telnet: we say DO BINARY
telnet: we say DO SGA
telnet: the peer says DO BINARY
telnet: the peer says WILL BINARY
telnet: the peer says WILL ECHO
telnet: we say DO ECHO
telnet: the peer says DO NEW-ENVIRON
telnet: we say WONT NEW-ENVIRON
telnet: the peer says DO option 165
telnet: we say WONT option 165
telnet: the peer says DO NAWS
telnet: we say WILL NAWS
telnet: we say NAWS 80 x 24
telnet: the peer says DO TTYPE
telnet: we say TTYPE DUMB`
		if got := strings.Join(log, "\n"); got != want {
			t.Errorf("%s\nwant\n%s", got, want)
		}
	})
}

// TestHostile has servers that ask without end. They get less than 20 answers,
// cost no memory that grows, and are given up on.
func TestHostile(t *testing.T) {
	var each, toggle []byte
	for option := range 256 {
		each = append(each, iac, will, byte(option), iac, do, byte(option))
		toggle = append(toggle, iac, will, optEcho, iac, wont, optEcho)
	}
	const tooMany, noData = "telnet: more than 19 answers were asked for", "octets of commands came, and no data"
	for _, tt := range []struct {
		name  string
		flood []byte
		says  string
	}{
		{"each option there is", each, tooMany},
		{"an option on and off", toggle, tooMany},
		{"the terminal's type", bytes.Repeat(octets("fffd18 fffa1801fff0"), 100), tooMany},
		{"one refused option", bytes.Repeat(octets("fffd27"), 100_000), noData},
		{"nothing at all", bytes.Repeat(octets("fff1"), 100_000), noData},
		{"a subnegotiation without end", append(octets("fffa27"), make([]byte, 1<<20)...), noData},
		{"many", bytes.Repeat(append(octets("fffa18"), append(make([]byte, 600), iac, se)...), 2000), noData},
		{"an option that is off", bytes.Repeat(octets("fffeff"), 100_000), noData},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, s := newPuppet(t)
				c := Open(s, Options{Passive: true})
				p.read(c)
				go p.s.Write(tt.flood)
				synctest.Wait()
				var refused *carrier.RefusedError
				if !errors.As(p.err, &refused) || !strings.Contains(p.err.Error(), tt.says) {
					t.Fatalf("Read: %v; want %s", p.err, tt.says)
				}
				p.mu.Lock()
				answers := 0
				decode := decoder{}
				for heard := p.heard.Bytes(); len(heard) > 0; {
					_, took, command := decode.decode(make([]byte, 1), heard)
					if heard = heard[took:]; command.verb != 0 {
						answers++
					}
				}
				p.mu.Unlock()
				if answers >= 20 {
					t.Errorf("it got %d answers", answers)
				}
				if _, err := c.Read(make([]byte, 1)); !errors.As(err, &refused) {
					t.Errorf("and then: %v", err)
				}
			})
		})
	}
}

// TestLongLife has a line that changes its modes now and then.
func TestLongLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPuppet(t)
		c := Open(s, Options{Passive: true})
		p.read(c)
		for range 100 {
			p.say("fffb01 fffc01")
			p.s.Write(make([]byte, 2*dataPerAnswer))
			p.hears("fffd01 fffe01")
		}
		if p.err != nil {
			t.Error(p.err)
		}
	})
}

// TestKeepalives has eleven days of nothing but NOPs, twice, with a word between.
func TestKeepalives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, s := newPuppet(t)
		c := Open(s, Options{Passive: true})
		p.read(c)
		for range 2 {
			for range 11 * 24 * time.Hour / (30 * time.Second) {
				p.say("fff1")
			}
			p.say("'a'")
		}
		synctest.Wait()
		if p.err != nil || p.data.String() != "aa" {
			t.Error(p.data.String(), p.err)
		}
	})
}

// TestServerTakesNothing has a server that asks and does not listen.
func TestServerTakesNothing(t *testing.T) {
	near, far := ends()
	c := Open(near, Options{})
	var wrote sync.WaitGroup
	wrote.Go(func() {
		for range 1000 {
			far.Write(octets("fffb01 fffc01"))
			far.Write(make([]byte, 2*dataPerAnswer))
		}
	})
	n, err := io.Copy(io.Discard, c)
	var refused *carrier.RefusedError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "not taken") {
		t.Errorf("after %d octets: %v", n, err)
	}
	c.Close()
	wrote.Wait()
}

// A tape is a Stream with all that a server says, piece octets a Read, and what the
// client says to it.
type tape struct {
	server []byte
	piece  int
	mu     sync.Mutex
	client []byte
}

func (s *tape) Read(b []byte) (int, error) {
	if len(s.server) == 0 {
		return 0, io.EOF
	}
	n := copy(b, s.server[:min(s.piece, len(s.server))])
	s.server = s.server[n:]
	return n, nil
}

func (s *tape) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client = append(s.client, b...)
	return len(b), nil
}

func (s *tape) Close() error { return nil }

// FuzzServer: whatever a server says, it gets few answers, none but of the options we
// speak and all well formed, and the same ones and the same data however what it says
// is cut up.
func FuzzServer(f *testing.F) {
	f.Add(octets(inetutils+"fffd18 fffa1801fff0 fffb00 0d00 fffc00 0d00 'login: '"), uint16(1), uint16(1))
	f.Add(octets("fffb01 fffc01 fffb01 fffc01 ffff fff2 fffa1801"), uint16(3), uint16(20_000))
	f.Fuzz(func(t *testing.T, server []byte, piece, size uint16) {
		if len(server) > maxQuiet {
			return // where it is given up on then depends on the pieces
		}
		run := func(piece, size int) (data, client []byte, err error) {
			s := &tape{server: server, piece: piece}
			c := Open(carrier.Stream{ReadWriteCloser: s}, Options{})
			buf := make([]byte, size)
			for err == nil {
				var n int
				n, err = c.Read(buf)
				data = append(data, buf[:n]...)
			}
			c.flush()
			c.Close()
			return data, s.client, err
		}
		data, client, err := run(len(server)+1, readBuffer)
		data2, client2, err2 := run(int(piece)+1, int(size)+1)
		if !bytes.Equal(data, data2) || !bytes.Equal(client, client2) || err.Error() != err2.Error() {
			t.Fatalf("whole: % x; % x; %v\nin pieces: % x; % x; %v", data, client, err, data2, client2, err2)
		}
		if len(data) > len(server) {
			t.Fatalf("%d octets became %d", len(server), len(data))
		}
		said := 0
		for d := (decoder{}); len(client) > 0; said++ {
			n, took, c := d.decode(make([]byte, 1), client)
			client = client[took:]
			if n > 0 || c.verb == 0 {
				t.Fatalf("it says something that is no command, before % x", client)
			}
			if c.verb == will && !slices.Contains(agreedUs, c.option) || c.verb == do && !slices.Contains(agreedHim, c.option) {
				t.Fatalf("it says %s %s", verbNames[c.verb], optionName(c.option))
			}
		}
		if offered := len(offeredUs) + len(offeredHim); said > offered+maxAnswers {
			t.Fatalf("it says %d things", said)
		}
	})
}
