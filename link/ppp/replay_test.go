package ppp

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
	"github.com/bodkin-net/bodkin/link/ppp/pppdump"
	"github.com/bodkin-net/bodkin/tunnel"
)

// A recording is testdata/NAME.pppdump, in the format of pppd's record option: what
// a Link sent and received that was opened with the config of livePeers' NAME, whose
// Rand is seeded with that name. TestLive makes it, with the real program at the
// other end:
//
//	go test -run TestLive -update ./link/ppp
//
// TestReplay plays the other end: it gives a Link the octets that were received, in
// the pieces in which they came, each as soon as the Link has sent what it had sent
// by then. So the Link must send the same control frames again, octet for octet and
// in the same order; time is fake, and whatever was repeated while nobody answered
// is repeated again. IP packets are left out on both sides: they were the test's.
func TestReplay(t *testing.T) {
	played := 0
	for _, p := range livePeers {
		if !p.recorded {
			continue
		}
		played++
		t.Run(p.name, func(t *testing.T) {
			recording, err := os.ReadFile(filepath.Join("testdata", p.name+".pppdump"))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { replay(t, p, recording) })
		})
	}
	if played == 0 {
		t.Error("there are no recordings")
	}
}

func replay(t *testing.T, p livePeer, recording []byte) {
	peer := newPlayer(t, recording)
	c := (&diary{t: t, name: "us"}).config(p.config)
	c.Rand = liveRand(p.name)
	link, err := Open(t.Context(), carrier.Stream{ReadWriteCloser: peer}, c)
	var failed *Error
	switch {
	case p.fails == 0 && err != nil:
		t.Fatal(err)
	case p.fails == 0:
		go func() { // whoever sits behind the link takes what comes
			packets := make([]tunnel.Packet, tunnel.BatchSize)
			for err := error(nil); err == nil; {
				_, err = link.ReadPackets(packets)
			}
		}()
		if p.goodby == byUs {
			peer.awaitGoodbye()
			link.Terminate("tested")
		}
		<-link.Done()
	case !errors.As(err, &failed) || failed.Kind != p.fails:
		t.Errorf("it failed with %v, want kind %d", err, p.fails)
	}
	if n := len(peer.want) - peer.sent; n > 0 {
		t.Errorf("%d frames were not sent again, the first: %s", n, peer.want[peer.sent])
	}
}

// A sentFrame is one control frame as it was on the line, without its flags.
type sentFrame struct {
	raw     []byte
	goodbye bool // it is a Terminate-Request of LCP
}

func (f sentFrame) String() string {
	protocol, data := decode(f.raw)
	p, sound := parsePacket(data)
	return notation(protocol, data, p, sound)
}

// decode takes one frame apart.
func decode(raw []byte) (protocol uint16, data []byte) {
	d := hdlc.NewDecoder(65535)
	b := append(append([]byte{hdlc.Flag}, raw...), hdlc.Flag)
	d.Fill(copy(d.Buffer(), b))
	protocol, data, _ = d.Next()
	return protocol, data
}

// controlFrames finds the control frames in what was sent.
func controlFrames(b []byte) (frames []sentFrame) {
	for raw := range bytes.SplitSeq(b, []byte{hdlc.Flag}) {
		if len(raw) == 0 {
			continue
		}
		switch protocol, data := decode(raw); protocol {
		case protocolIPv4, protocolIPv6:
		default:
			frames = append(frames, sentFrame{bytes.Clone(raw), protocol == protocolLCP && data[0] == termReq})
		}
	}
	return frames
}

// A turn is octets that were received, and how many frames had been sent by then.
type turn struct {
	after  int
	octets []byte
}

// A player is the other end of a recording, as a Stream.
type player struct {
	t      *testing.T
	want   []sentFrame
	turns  []turn
	mu     sync.Mutex
	cond   *sync.Cond
	sent   int
	closed bool
}

func newPlayer(t *testing.T, recording []byte) *player {
	p := &player{t: t}
	p.cond = sync.NewCond(&p.mu)
	r := pppdump.NewReader(bytes.NewReader(recording))
	for {
		record, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch record.Kind {
		case pppdump.Sent:
			p.want = append(p.want, controlFrames(record.Data)...)
		case pppdump.Received:
			p.turns = append(p.turns, turn{len(p.want), bytes.Clone(record.Data)})
		}
	}
	if len(p.want) == 0 || len(p.turns) == 0 {
		t.Fatal("the recording is empty")
	}
	return p
}

// Read gives the next octets when it is their turn, and the end of the stream when
// all is said.
func (p *player) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed {
		if len(p.turns) == 0 && p.sent >= len(p.want) {
			return 0, io.EOF
		}
		if len(p.turns) > 0 && p.sent >= p.turns[0].after {
			n := copy(b, p.turns[0].octets)
			if p.turns[0].octets = p.turns[0].octets[n:]; len(p.turns[0].octets) == 0 {
				p.turns = p.turns[1:]
			}
			return n, nil
		}
		p.cond.Wait()
	}
	return 0, net.ErrClosed
}

// Write checks what is sent against the recording.
func (p *player) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0, net.ErrClosed
	}
	for _, f := range controlFrames(b) {
		switch {
		case p.sent >= len(p.want):
			p.t.Errorf("sent one more frame than recorded: %s", f)
		case !bytes.Equal(f.raw, p.want[p.sent].raw):
			p.t.Errorf("frame %d:\n sent     %s\n recorded %s", p.sent, f, p.want[p.sent])
		}
		p.sent++
	}
	p.cond.Broadcast()
	return len(b), nil
}

// awaitGoodbye returns when all has been sent that came before our goodbye.
func (p *player) awaitGoodbye() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.closed && p.sent < len(p.want) && !p.want[p.sent].goodbye {
		p.cond.Wait()
	}
}

func (p *player) Close() error {
	p.mu.Lock()
	p.closed = true
	p.cond.Broadcast()
	p.mu.Unlock()
	return nil
}
