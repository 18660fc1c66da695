package carrier

import (
	"context"
	"net"
)

// A Dial opens a new Stream to one place each time it is called. Ways of several
// hops are made of one by Then. ctx bounds the call, not the Stream.
type Dial func(ctx context.Context) (Stream, error)

// Then returns the Dial that goes on by a Hop from where d gets to. A Stream that
// the Hop fails on is closed.
func (d Dial) Then(h Hop) Dial {
	return func(ctx context.Context) (Stream, error) {
		s, err := d(ctx)
		if err != nil {
			return Stream{}, err
		}
		further, err := h(ctx, s)
		if err != nil {
			s.Close()
			return Stream{}, err
		}
		return further, nil
	}
}

// Unread returns s as it was before octets were read from it: they come first. A
// Hop that read too far gives them back so. It keeps the slice.
func Unread(s Stream, octets []byte) Stream {
	if len(octets) == 0 {
		return s
	}
	u := unread{Stream: s, left: octets}
	if w, ok := s.ReadWriteCloser.(CloseWriter); ok {
		s.ReadWriteCloser = &unreadHalves{u, w}
	} else {
		s.ReadWriteCloser = &u
	}
	return s
}

// Rest takes back what Unread put before a Stream, as far as it was not read again:
// the Stream as it was given to Unread, and the octets, which may be none. Of any other
// Stream it returns the Stream.
func Rest(s Stream) (Stream, []byte) {
	switch u := s.ReadWriteCloser.(type) {
	case *unread:
		return u.Stream, u.left
	case *unreadHalves:
		return u.Stream, u.left
	}
	return s, nil
}

// unread is the ReadWriteCloser of a Stream with octets given back.
type unread struct {
	Stream
	left []byte
}

func (u *unread) Read(b []byte) (int, error) {
	if len(u.left) == 0 {
		return u.Stream.Read(b)
	}
	n := copy(b, u.left)
	u.left = u.left[n:]
	return n, nil
}

func (u *unread) WriteBuffers(buffers net.Buffers) error { return u.Stream.WriteBuffers(buffers) }

func (u *unread) Abort() error { return u.Stream.GiveUp() }

// Break passes on a break condition where the Stream below has one.
func (u *unread) Break() error { return u.Stream.Break() }

// unreadHalves is unread for a Stream whose ways end one by one.
type unreadHalves struct {
	unread
	halves CloseWriter
}

func (u *unreadHalves) CloseWrite() error { return u.halves.CloseWrite() }
