package carrier

import (
	"context"
	"errors"
	"io"
	"testing"
)

func TestThen(t *testing.T) {
	var near line
	reach := Dial(func(context.Context) (Stream, error) {
		var far line
		near, far = pair()
		go far.Write([]byte("hello, world"))
		return Stream{ReadWriteCloser: near}, nil
	})
	greeted := reach.Then(func(_ context.Context, s Stream) (Stream, error) {
		all := make([]byte, 7)
		_, err := io.ReadFull(s, all)
		return Unread(s, all[5:]), err
	})
	s, err := greeted(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rest := make([]byte, 7)
	if _, err := io.ReadFull(s, rest); err != nil || string(rest) != ", world" {
		t.Errorf("after what was given back: %q, %v", rest, err)
	}

	broken := errors.New("no")
	_, err = reach.Then(func(context.Context, Stream) (Stream, error) { return Stream{}, broken })(t.Context())
	if _, closed := near.Write([]byte("x")); err != broken || closed == nil {
		t.Errorf("a failed hop: %v, and its Stream is closed: %v", err, closed)
	}
}

// TestUnreadKeeps: what a Stream can do besides, it can do with octets given back.
func TestUnreadKeeps(t *testing.T) {
	near, far := pair()
	s := Unread(Stream{ReadWriteCloser: halves{near}}, []byte("x"))
	if _, ok := s.ReadWriteCloser.(CloseWriter); !ok {
		t.Error("CloseWrite is lost")
	}
	go s.WriteBuffers([][]byte{[]byte("a"), []byte("b")})
	both := make([]byte, 2)
	if _, err := io.ReadFull(far, both); err != nil || string(both) != "ab" {
		t.Errorf("WriteBuffers wrote %q, %v", both, err)
	}
	if err := s.Break(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Break: %v", err)
	}
	if s := Unread(Stream{ReadWriteCloser: near}, []byte("x")); s.ReadWriteCloser.(io.Reader) == nil {
		t.Error("no Reader")
	} else if _, ok := s.ReadWriteCloser.(CloseWriter); ok {
		t.Error("CloseWrite came from nowhere")
	}
}

func TestRest(t *testing.T) {
	near, _ := pair()
	for _, below := range []Stream{{ReadWriteCloser: near}, {ReadWriteCloser: halves{near}}} {
		s := Unread(below, []byte("hello"))
		io.ReadFull(s, make([]byte, 2))
		if got, rest := Rest(s); got != below || string(rest) != "llo" {
			t.Errorf("%v, %q", got, rest)
		}
		if got, rest := Rest(below); got != below || rest != nil {
			t.Errorf("nothing was given back: %v, %q", got, rest)
		}
	}
}
