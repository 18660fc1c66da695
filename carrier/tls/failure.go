package tls

import (
	"context"
	cryptotls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
)

// ErrDamaged is that what came is not what the peer sent: the way damaged it, or
// somebody changed it. Nothing of it was delivered.
var ErrDamaged = errors.New("the way damaged what it carried, or somebody changed it")

// A damagedError is ErrDamaged with what was seen.
type damagedError struct{ seen string }

func (e *damagedError) Error() string { return "tls: " + ErrDamaged.Error() + ": " + e.seen }
func (e *damagedError) Unwrap() error { return ErrDamaged }

// alert is an alert of TLS in words (RFC 8446, section 6), and who sent it.
type alert struct {
	words string
	ours  bool
}

// alertIn returns the alert that err is, as crypto/tls makes them.
func alertIn(err error) (a alert, ok bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" && op.Op != "local error" {
		return alert{}, false
	}
	return alert{strings.TrimPrefix(op.Err.Error(), "tls: "), op.Op == "local error"}, true
}

// damage reports whether the alert is one that octets on the way may be the cause of,
// and two ends that are as they should be are not.
func (a alert) damage() bool {
	switch a.words {
	case "bad record MAC", "record overflow", "unexpected message", "error decoding message", "error decrypting message", "illegal parameter", "missing extension":
		return true
	}
	return false
}

// damage returns err as a damagedError if it is one.
func (w *wire) damage(err error) error {
	var header cryptotls.RecordHeaderError
	if errors.As(err, &header) {
		if !looksLikeTLS(w.head) {
			return &damagedError{"it is no TLS, but begins " + strconv.Quote(carrier.Printable(string(w.head)))}
		}
		return &damagedError{header.Msg}
	}
	if a, ok := alertIn(err); ok && a.damage() {
		if a.ours {
			return &damagedError{a.words}
		}
		return &damagedError{"the far side met " + a.words}
	}
	return nil
}

// looksLikeTLS reports whether octets begin as a record of a handshake does, or as an
// alert (RFC 8446, section 5.1).
func looksLikeTLS(head []byte) bool {
	return len(head) >= 2 && (head[0] == 22 || head[0] == 21) && head[1] == 3
}

// ended returns what the Stream below ended with, if err is that.
func (w *wire) ended(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, end := range []error{w.inErr, w.outErr} {
		if end != nil && errors.Is(err, end) {
			return end
		}
	}
	return nil
}

// failure says in words what crypto/tls returned after the handshake.
func (c *conn) failure(err error) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	if err == io.EOF {
		return err
	}
	if damaged := c.wire.damage(err); damaged != nil {
		return damaged
	}
	if a, ok := alertIn(err); ok {
		return fmt.Errorf("tls: the far side ended the connection: %s", a.words)
	}
	switch end := c.wire.ended(err); {
	case end == nil:
		return err
	case end == errCut && c.strict:
		return fmt.Errorf("tls: %w: %w", end, io.ErrUnexpectedEOF)
	case end == errCut:
		return io.EOF
	default:
		return end
	}
}

// late is the error of a handshake that ctx ended.
func (h *handshake) late(ctx context.Context) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return context.Cause(ctx)
	}
	return &carrier.SilenceError{Layer: layer, Reason: "the far side has not ended the TLS handshake in time; it sent " + h.wire.came()}
}

// failure says in words what crypto/tls, or judge, returned in the handshake.
func (h *handshake) failure(err error) error {
	if h.refused != nil {
		return &carrier.RefusedError{Layer: layer, Reason: carrier.Printable(h.refused.Error()), Err: h.refused}
	}
	if damaged := h.wire.damage(err); damaged != nil {
		return damaged
	}
	if a, ok := alertIn(err); ok && !a.ours {
		switch a.words {
		case "bad certificate", "unsupported certificate", "revoked certificate", "expired certificate", "unknown certificate", "unknown certificate authority", "access denied", "certificate required":
			return h.unwelcome(": " + a.words)
		}
		return &carrier.RefusedError{Layer: layer, Reason: "the far side ended the TLS handshake: " + a.words, Hint: "is it bodkin that answers there?"}
	}
	if end := h.wire.ended(err); end != nil || err == io.EOF {
		if end == nil || end == errCut {
			end = io.ErrUnexpectedEOF
		}
		return &carrier.HangUpError{Layer: layer, Reason: fmt.Sprintf("the way ended in the middle of the TLS handshake, after %s from the far side: %s", h.wire.came(), carrier.Printable(end.Error())), Err: end}
	}
	return &carrier.RefusedError{Layer: layer, Reason: "TLS handshake: " + carrier.Printable(strings.TrimPrefix(err.Error(), "tls: ")), Hint: "is it bodkin that answers there?", Err: err}
}

// unwelcome says that the far side does not take our key, and what to do about it.
func (h *handshake) unwelcome(why string) error {
	line, fingerprint := inWords(h.own)
	e := &carrier.RefusedError{Layer: layer, Reason: "the far side does not know our key " + fingerprint + why}
	switch {
	case h.c.Key == nil:
		e.Hint = "it was made for this connection alone: the far side wants one that it knows"
	case h.client:
		e.Hint = fmt.Sprintf("add the line `%s` to its authorized_clients, or ask there whether the key has ended", strings.TrimSpace(line))
	default:
		e.Hint = fmt.Sprintf("the line `HOST %s` in its known_servers, with the name by which it calls this host, makes the key known", strings.TrimSpace(line))
	}
	return e
}
