// Package telnet puts a telnet client on a Stream: RFC 854 and 855, and the options
// BINARY (RFC 856), ECHO (857), SUPPRESS-GO-AHEAD (858), NAWS (1073) and TTYPE
// (1091), negotiated by the Q method (RFC 1143).
//
//	octets of the caller
//	    |  Read, Write
//	  Conn            read.go, write.go: the loop around
//	    decode, encode     codec.go: data and commands apart, IAC doubled, CR NUL
//	    negotiation        negotiate.go: what is answered to WILL, WONT, DO, DONT, SB
//	      qMethod            qmethod.go: RFC 1143's table
//	    |
//	octets on the wire
//
// It has no terminal and no escape character, and tells nothing of the user or the
// machine. What the peer asks for beyond the five options is refused once: LINEMODE,
// NEW-ENVIRON, AUTHENTICATION, ENCRYPT and all else. Telnet protects nothing; what
// runs inside it must.
//
// Each way is BINARY or not on its own, and an octet written arrives the same either
// way, if the server keeps to the RFC. Not all do: see Conn.Stream.
package telnet

import (
	"net"
	"sync"

	"github.com/bodkin-net/bodkin/carrier"
)

// Bounds on what a server may make us do. GNU inetutils' telnetd, which asks for as
// much as any, has 16 answers before its login prompt.
const (
	// maxAnswers is how many messages we say in answer to a server, and one more
	// for each dataPerAnswer octets of data: a line that lives for weeks may change
	// its modes now and then.
	maxAnswers    = 19
	dataPerAnswer = 64 << 10

	// maxQuiet is how many octets of commands may come without an octet of data
	// between: 32,768 keepalive NOPs, eleven silent days at one in 30 seconds.
	maxQuiet = 64 << 10

	// maxOutbox is how many octets of answers wait while the server takes nothing.
	maxOutbox = 4 << 10
)

// Options are what the client may be told.
type Options struct {
	// Passive offers nothing by itself and only answers: at a proxy's prompt, which
	// may not know telnet at all.
	Passive bool

	// Terminal is the terminal's type, told if the server asks: at most 40 letters,
	// digits, or "+-./", as RFC 1091 has it. Anything else, and nothing, is "DUMB".
	Terminal string

	// Width and Height of the terminal in characters, told if the server asks. If
	// one is 0, it is 80 wide or 24 high.
	Width, Height uint16

	// Log gets the negotiation line by line, for people: printable, and bounded as
	// our answers are. Calls may come from Read and Write at the same time, and must
	// not call the Conn. May be nil.
	Log func(line string)
}

// Modes are the options in effect.
type Modes struct {
	BinaryIn  bool // the peer sends BINARY
	BinaryOut bool // we do
	SGA       bool // the peer sends no go-aheads: character mode
	Echo      bool // the peer echoes what we send
}

// offers are what we ask for unless Passive: BINARY and SGA both ways, and our TTYPE,
// which servers ask for before anything else. BINARY, which is 0, is not the last of
// them: the telnetd of busybox 1.35 drops a NUL that is the last octet it has read,
// takes the IAC that comes next for the option, and hands the rest to the login.
var (
	offeredUs  = []byte{optTType, optBinary, optSGA}
	offeredHim = []byte{optBinary, optSGA}
)

// agreedUs and agreedHim are what we have on if the peer asks for it. We never echo.
var (
	agreedUs  = []byte{optBinary, optSGA, optTType, optNAWS}
	agreedHim = []byte{optBinary, optSGA, optEcho}
)

// A Conn is a Stream with telnet on it. Read and Write may be called at the same
// time, each by one goroutine. Settle, Reset and Detach are called where Read would
// be, and not while Write runs.
type Conn struct {
	below carrier.Stream
	fresh func() negotiation // as every connection begins

	reading  // read.go
	writing  // write.go
	mu       sync.Mutex
	options  negotiation
	outbox   []byte   // commands to send before more data
	logged   []string // lines for Log, which is called without mu
	log      func(line string)
	closed   bool // or detached
	detached bool
	flushing bool           // a goroutine sends the outbox
	running  sync.WaitGroup // that one, and Settle's read
}

// Open puts telnet on s. Nothing is sent or read before the first Read, Write or
// Settle. If s is a TCP connection, its urgent data is put back in line, where
// telnet's Synch (RFC 854, page 9) is skipped as any command is.
func Open(s carrier.Stream, o Options) *Conn {
	oobInline(s.ReadWriteCloser)
	o.Terminal = terminalName(o.Terminal)
	if o.Width == 0 {
		o.Width = 80
	}
	if o.Height == 0 {
		o.Height = 24
	}
	c := newConn(s, o.Log, func() negotiation {
		n := newNegotiation(agreedUs, agreedHim)
		n.terminal, n.width, n.height = o.Terminal, o.Width, o.Height
		return n
	})
	if !o.Passive {
		c.offer(offeredUs, offeredHim)
	}
	return c
}

// newConn returns a Conn for either side, which has offered nothing.
func newConn(s carrier.Stream, log func(string), fresh func() negotiation) *Conn {
	c := &Conn{below: s, log: log, fresh: fresh}
	c.forget()
	return c
}

// forget has all options off.
func (c *Conn) forget() {
	c.mu.Lock()
	defer c.unlock()
	c.options = c.fresh()
	if c.log != nil {
		c.options.log = func(line string) { c.logged = append(c.logged, "telnet: "+line) }
	}
}

// start runs f in a goroutine that Close waits for. It fails after Close.
func (c *Conn) start(f func()) error {
	c.mu.Lock()
	defer c.unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.running.Go(f)
	return nil
}

// kick has sent what telnet has to say. It fails after Close.
func (c *Conn) kick() error {
	c.mu.Lock()
	defer c.unlock()
	if c.closed {
		return net.ErrClosed
	}
	c.sendOutbox()
	return nil
}

// unlock releases mu and hands what was logged meanwhile to Log.
func (c *Conn) unlock() {
	lines := c.logged
	c.logged = nil
	c.mu.Unlock()
	for _, line := range lines {
		c.log(line)
	}
}

// Reset begins anew: from here on another telnet server speaks, as behind a proxy
// whose dialogue has ended. All options are as at the start, and offered unless
// passive. What is still owed to the old server is sent first; what was read from
// the Stream and not by the caller is the new one's.
func (c *Conn) Reset(passive bool) {
	c.restart()
	c.forget()
	if !passive {
		c.offer(offeredUs, offeredHim)
	}
}

// offer asks for options, with what is sent next.
func (c *Conn) offer(us, him []byte) {
	c.mu.Lock()
	defer c.unlock()
	c.outbox = c.options.offer(c.outbox, us, him)
}

// Modes returns the options in effect now.
func (c *Conn) Modes() Modes {
	c.mu.Lock()
	defer c.mu.Unlock()
	us, him := &c.options.us.options, &c.options.him.options
	return Modes{
		BinaryIn:  him[optBinary] == yes,
		BinaryOut: us[optBinary] == yes,
		SGA:       him[optSGA] == yes,
		Echo:      him[optEcho] == yes,
	}
}

// Stream returns the Conn as a Stream. Its Unsafe says what the way eats, as agreed
// by now, besides what the Stream below eats: nothing if both ways are BINARY, else
// NUL, CR and LF. The two mappings that RFC 854 knows are undone here, and GNU
// inetutils' telnetd carries all 256 octets without BINARY; but busybox' sends a CR
// as it is, and others make CR LF, LF or nothing of it. Inetutils' agrees to BINARY at
// first and ends it before its login prompt, so a caller asks after its dialogue.
func (c *Conn) Stream() carrier.Stream {
	s := c.below
	s.ReadWriteCloser = c
	if m := c.Modes(); !m.BinaryIn || !m.BinaryOut {
		s.Unsafe.Add(nul)
		s.Unsafe.Add(cr)
		s.Unsafe.Add('\n')
	}
	return s
}

// Detach takes telnet off: it returns the Stream below, beginning with what was
// read from it and not by the caller. What was answered is sent before. The Conn is
// of no more use, and its Close does nothing.
func (c *Conn) Detach() carrier.Stream {
	c.flush() // an error will come again
	c.mu.Lock()
	c.closed, c.detached = true, true
	c.unlock()
	return c.unread()
}

// Close closes the Stream below. Closing again is no error.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	detached := c.detached
	c.unlock()
	if detached {
		return nil
	}
	err := c.below.Close()
	c.running.Wait()
	return err
}

var _ interface {
	carrier.BuffersWriter
	carrier.Breaker
} = (*Conn)(nil)
