// Package native is the link between two bodkins, as described in spec.md
// beside it: IP packets, whole super-packets among them, in frames on one
// stream, after a hello each way.
//
// It checks every length and every offload fact that comes from the peer. What
// the packets say and where they go is left to the Port they are joined to.
package native

import (
	"fmt"

	"github.com/bodkin-net/bodkin/carrier"
)

// Version is the version of spec.md that this package speaks.
const Version = 1

// Frame types (spec.md, section 2).
const (
	frameHello       = 0x01
	framePacket      = 0x02
	frameSuper       = 0x03
	frameEchoRequest = 0x04
	frameEchoReply   = 0x05
	frameClose       = 0x06
	frameError       = 0x07
	frameIgnorable   = 0x80 // this and above may be skipped
)

// Codes of CLOSE (spec.md, section 6).
const (
	CloseNoReason = 0
	CloseUser     = 1
	CloseEnding   = 2
	CloseIdle     = 3
)

// Codes of ERROR (spec.md, section 6).
const (
	ErrorOther    = 0
	ErrorFrame    = 1
	ErrorVersion  = 2
	ErrorHello    = 3
	ErrorPolicy   = 4
	ErrorEmulator = 5
)

// A ClosedError is how a link ends that the peer closed in good order.
type ClosedError struct {
	Code uint8
	Text string // printable
}

func (e *ClosedError) Error() string {
	if e.Text != "" {
		return "native: the peer closed the link: " + e.Text
	}
	return "native: the peer closed the link"
}

// A ProtocolError says that one side broke the specification or asked for what
// cannot be had. Remote is true when the peer says so of us.
type ProtocolError struct {
	Remote bool
	Code   uint8
	Text   string // printable
}

func (e *ProtocolError) Error() string {
	if e.Remote {
		return fmt.Sprintf("native: the peer refused: %s (error %d)", e.Text, e.Code)
	}
	return "native: " + e.Text
}

func protocolError(code uint8, format string, args ...any) *ProtocolError {
	return &ProtocolError{Code: code, Text: fmt.Sprintf(format, args...)}
}

// printable makes a text from the peer, at most most octets of it, fit to show.
func printable(text []byte, most int) string {
	return carrier.Printable(string(text[:min(len(text), most)]))
}
