package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// Version is the version of spec.md that this package speaks.
const Version = 1

// Lengths of what the frames of the greeting hold, in octets (spec.md, sections 3 and 4).
const (
	keyLen  = 32 // X25519, RFC 7748
	noteMax = 200

	newLen       = 2 + 4 + keyLen
	resumeLen    = 2 + len(ID{}) + nonceLen
	welcomeLen   = 1 + 4 + len(ID{}) + keyLen // and the note
	challengeLen = 1 + nonceLen
	answerLen    = 8 + proofLen     // PROOF
	acceptLen    = 8 + 8 + proofLen // ACCEPT

	messageMax = 512
)

// greetTime is how long a greeting may take, or longer on a way known to be slow.
const greetTime = 20 * time.Second

// Codes of REFUSE (spec.md, section 3).
const (
	refuseUnknown = 1
	refuseForged  = 2
	refuseVersion = 3
	refuseOther   = 4
)

// A message is a frame of the greeting, whole: proofs are made over such.
type message []byte

func (m message) frame() byte     { return m[0] }
func (m message) payload() []byte { return m[headerLen:] }

func newMessage(frame byte, parts ...[]byte) message {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	m := appendHeader(make([]byte, 0, headerLen+n), frame, n)
	for _, p := range parts {
		m = append(m, p...)
	}
	return m
}

// lengthOf says whether a message of the greeting may hold so many octets. NEW, RESUME
// and CHALLENGE may hold more than this version knows of.
func lengthOf(frame byte, n int) (ok bool) {
	switch frame {
	case frameNew:
		return n >= newLen && n <= messageMax
	case frameResume:
		return n >= resumeLen && n <= messageMax
	case frameChallenge:
		return n >= challengeLen && n <= messageMax
	case frameWelcome:
		return n >= welcomeLen && n <= welcomeLen+noteMax
	case frameProof:
		return n == answerLen
	case frameAccept:
		return n == acceptLen
	case frameRefuse:
		return n >= 1 && n <= 1+noteMax
	}
	return false
}

// readMessage reads one frame of the greeting, and not one octet more. Of a native
// link's first frame it returns the header alone. What was read comes back even with an
// error.
func readMessage(r io.Reader) (message, error) {
	m := make(message, headerLen, headerLen+messageMax)
	n, err := io.ReadFull(r, m)
	if err != nil {
		return m[:n], err
	}
	if m.frame() == nativeHello {
		return m, nil
	}
	length := int(m[1])<<16 | int(m[2])<<8 | int(m[3])
	if !lengthOf(m.frame(), length) {
		return m, fmt.Errorf("session: the other side does not speak this protocol (it began with %q)", carrier.Printable(string(m)))
	}
	m = m[:headerLen+length]
	n, err = io.ReadFull(r, m[headerLen:])
	return m[:headerLen+n], err
}

// expect reads one frame of the greeting, which is to be of the given type. A REFUSE is
// an error.
func expect(r io.Reader, frame byte) (message, error) {
	m, err := readMessage(r)
	if err != nil {
		return nil, fmt.Errorf("session: waiting for the other side's answer: %w", err)
	}
	switch m.frame() {
	case frame:
		return m, nil
	case frameRefuse:
		return nil, refusal(m.payload())
	}
	return nil, fmt.Errorf("session: a message of type 0x%02x where one of 0x%02x was due", m.frame(), frame)
}

// refusal makes the error of a REFUSE's payload.
func refusal(payload []byte) error {
	text := carrier.Printable(string(payload[1:]))
	switch payload[0] {
	case refuseUnknown:
		return ErrUnknown
	case refuseForged:
		return fmt.Errorf("%w (it says so of us)", ErrForged)
	}
	return &carrier.RefusedError{Layer: "session", Reason: "the other side refused: " + text}
}

// refuse makes the REFUSE that says err.
func refuse(err error) message {
	code, text := byte(refuseOther), ""
	switch {
	case errors.Is(err, ErrUnknown):
		code = refuseUnknown
	case errors.Is(err, ErrForged):
		code = refuseForged
	case errors.Is(err, errVersion):
		code = refuseVersion
		text = err.Error()
	case err != nil:
		text = err.Error()
	}
	text = carrier.Printable(text)
	return newMessage(frameRefuse, []byte{code}, []byte(text[:min(len(text), noteMax)]))
}

var errVersion = errors.New("session: no common version")

// versions is what NEW and RESUME begin with.
var versions = []byte{Version, Version}

// checkVersion looks at the versions that a caller speaks.
func checkVersion(payload []byte) error {
	if lowest, highest := payload[0], payload[1]; lowest > Version || highest < Version {
		return fmt.Errorf("%w: we speak %d, the other side %d to %d", errVersion, Version, lowest, highest)
	}
	return nil
}

// milliseconds is a duration as NEW and WELCOME hold it.
func milliseconds(d time.Duration) []byte {
	ms := min(max(d, 0).Milliseconds(), math.MaxUint32)
	if ms == 0 && d > 0 {
		ms = 1
	}
	return binary.BigEndian.AppendUint32(nil, uint32(ms))
}

func duration(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// within runs fn, and closes s to wake it when ctx or the greeting's time ends.
func within(ctx context.Context, s carrier.Stream, fn func() error) error {
	wait := greetTime + s.Patience()
	ctx, cancel := context.WithTimeoutCause(ctx, wait, fmt.Errorf("session: no answer from the other side in %.0f seconds", wait.Seconds()))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	err := fn()
	if !stop() {
		return context.Cause(ctx)
	}
	return err
}
