package websocket

import (
	"bufio"
	"fmt"
	"net"
	"net/http"

	library "github.com/coder/websocket"

	"github.com/bodkin-net/bodkin/carrier"
)

// libraryBuffer is what the library's own readers and writers hold, in octets: a frame's
// head and what lies around it. The wire has the large buffers.
const libraryBuffer = 512

// Accept makes a Stream of the request r for an upgrade (RFC 6455, section 4.2). If it
// is none, or w cannot give away its connection, w has been answered and the error says
// why; the answer quotes nothing of the request.
//
// The Stream lives on when the handler returns; r's context ends then.
//
// Any Origin will do. The field is there so that a page of somebody else's cannot use
// what a browser remembers of its user here (RFC 6455, section 10.2), and a browser remembers
// nothing: who the peer is will be proved inside, by keys that no page can use.
func Accept(w http.ResponseWriter, r *http.Request) (carrier.Stream, error) {
	giver := &giver{ResponseWriter: w}
	ws, err := library.Accept(giver, r, &library.AcceptOptions{
		InsecureSkipVerify: true,
		CompressionMode:    library.CompressionDisabled,
	})
	if err != nil {
		if giver.wire != nil {
			giver.wire.abandon()
		}
		return carrier.Stream{}, fmt.Errorf("websocket: %s", printable(err.Error()))
	}
	return newConn(ws, giver.wire), nil
}

// A giver is a ResponseWriter that gives away its connection as a wire, and whose
// answers, if it does not, say nothing beyond their status.
type giver struct {
	http.ResponseWriter
	wire *wire
}

// Write swallows the library's words, which quote the request.
func (g *giver) Write(b []byte) (int, error) { return len(b), nil }

func (g *giver) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, buffered, err := http.NewResponseController(g.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	read, _ := buffered.Reader.Peek(buffered.Reader.Buffered())
	g.wire = newWire(carrier.Stream{ReadWriteCloser: webConn{c}}, read)
	return g.wire, bufio.NewReadWriter(bufio.NewReaderSize(g.wire, libraryBuffer), bufio.NewWriterSize(g.wire, libraryBuffer)), nil
}
