package session

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// farewellTime is how long a refusal, or an END, may take to be written.
const farewellTime = time.Second

// A Caller is a Stream whose greeting was read. It is to be given to one of Accept,
// Resume, Refuse, or taken by Stream.
type Caller struct {
	stream   carrier.Stream
	greeting message
}

// Greet reads the greeting of a Stream that somebody opened to us, and not one octet
// more. It owns s from then on, and closes it when it fails or when ctx ends first.
func Greet(ctx context.Context, s carrier.Stream) (*Caller, error) {
	c := &Caller{stream: s}
	err := within(ctx, s, func() (err error) {
		if c.greeting, err = readMessage(s); err != nil {
			return fmt.Errorf("session: waiting for the other side's greeting: %w", err)
		}
		switch c.greeting.frame() {
		case nativeHello:
			return nil
		case frameNew, frameResume:
			return checkVersion(c.greeting.payload())
		}
		return fmt.Errorf("session: a message of type 0x%02x is no greeting", c.greeting.frame())
	})
	switch {
	case errors.Is(err, errVersion):
		c.Refuse(err)
		return nil, err
	case err != nil:
		s.Close()
		return nil, err
	}
	return c, nil
}

// Plain reports whether the other side begins a native link without a session.
func (c *Caller) Plain() bool { return c.greeting.frame() == nativeHello }

// Stream returns the Stream as if nothing had been read from it. It is the caller's.
func (c *Caller) Stream() carrier.Stream { return carrier.Unread(c.stream, c.greeting) }

// Resumes returns the Session that the other side wants to go on with, if it is one
// that there is already.
func (c *Caller) Resumes() (id ID, ok bool) {
	if c.greeting.frame() != frameResume {
		return ID{}, false
	}
	return ID(c.greeting.payload()[2:]), true
}

// Wants returns how long the other side asks a new Session to be held.
func (c *Caller) Wants() time.Duration {
	if c.greeting.frame() != frameNew {
		return 0
	}
	return duration(c.greeting.payload()[2:])
}

// Refuse tells the other side why it gets no Session, ErrUnknown if the one it wants is
// not there, and closes the Stream.
func (c *Caller) Refuse(err error) {
	late := time.AfterFunc(farewellTime, func() { c.stream.Close() })
	defer late.Stop()
	c.stream.Write(refuse(err))
	c.stream.Close()
}

// Accept begins a new Session with a Caller that neither is Plain nor resumes. It is
// held no longer than the Caller wants. Accept owns the Stream, and closes it when it
// fails or when ctx ends first.
func (c *Caller) Accept(ctx context.Context, t Terms, o Options) (*Session, error) {
	t.Grace = max(0, min(t.Grace, c.Wants()))
	var accepted *Session
	err := within(ctx, c.stream, func() (err error) {
		if c.greeting.frame() != frameNew {
			return errors.New("session: this caller wants no new one")
		}
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return fmt.Errorf("session: %w", err)
		}
		shared, err := agree(key, c.greeting.payload()[newLen-keyLen:newLen])
		if err != nil {
			return err
		}
		var id ID
		rand.Read(id[:])
		note := carrier.Printable(t.Note)
		grace := milliseconds(t.Grace)
		welcome := newMessage(frameWelcome, []byte{Version}, grace, id[:], key.PublicKey().Bytes(), []byte(note[:min(len(note), noteMax)]))
		first, err := newSecret(shared, c.greeting, welcome)
		if err != nil {
			return fmt.Errorf("session: %w", err)
		}
		if _, err := c.stream.Write(welcome); err != nil {
			return fmt.Errorf("session: answering the other side: %w", err)
		}
		accepted = newSession(id, first, duration(grace), o)
		accepted.waits = true
		return nil
	})
	if err != nil {
		c.stream.Close()
		return nil, err
	}
	accepted.begin(c.stream)
	return accepted, nil
}

// Resume goes on with the Session on the Stream of a Caller that asks for it and proves
// that it is its peer; the Stream that there was, if any, is closed then, and not
// disturbed before. To one that does not, nothing but a nonce is told, and Resume
// returns ErrForged. It owns the Stream, and closes it when it fails or when ctx ends
// first.
func (s *Session) Resume(ctx context.Context, c *Caller) error {
	err := within(ctx, c.stream, func() error { return s.resume(c) })
	switch {
	case errors.Is(err, ErrForged), errors.Is(err, ErrUnknown):
		c.Refuse(err)
	case err != nil:
		c.stream.Close()
	}
	return err
}

func (s *Session) resume(c *Caller) error {
	if id, ok := c.Resumes(); !ok || id != s.id || s.grace == 0 {
		return ErrUnknown
	}
	nonce := make([]byte, nonceLen)
	rand.Read(nonce)
	challenge := newMessage(frameChallenge, []byte{Version}, nonce)
	if _, err := c.stream.Write(challenge); err != nil {
		return fmt.Errorf("session: answering the other side: %w", err)
	}
	proof, err := expect(c.stream, frameProof)
	if err != nil {
		return err
	}
	claim, accept, err := s.admit(c.greeting, challenge, proof)
	if err != nil {
		return err
	}
	_, err = c.stream.Write(accept)

	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.over() != nil:
		return errors.New("session: it ended meanwhile")
	case claim != s.attempts:
		return errors.New("session: another connection has taken its place")
	case err != nil:
		err = fmt.Errorf("session: answering the other side: %w", err)
		s.tell(err)
		return err
	}
	s.join(c.stream, 0).confirms = true
	return nil
}

// admit looks at the proof of a caller. If it is right the Session leaves the Stream
// that it is on, and admit returns the answer, and which attempt this is.
func (s *Session) admit(resume, challenge, proof message) (claim uint64, accept message, err error) {
	said, theirs := proof.payload()[:8], proof.payload()[8:]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over() != nil {
		return 0, nil, ErrUnknown
	}
	known := s.secret
	now := known.proves(theirs, labelClient, resume, challenge, said)
	before := s.former.proves(theirs, labelClient, resume, challenge, said) && s.hasFormer
	if !now && !before {
		return 0, nil, ErrForged
	}
	theyHave := binary.BigEndian.Uint64(said)
	if theyHave > s.sent {
		return 0, nil, fmt.Errorf("session: the far side has %d octets, and we sent %d", theyHave, s.sent)
	}
	if now {
		next, err := known.next()
		if err != nil {
			return 0, nil, fmt.Errorf("session: %w", err)
		}
		s.former, s.hasFormer, s.secret = known, true, next
	} else {
		known = s.former // our answer to an earlier attempt has not come to it
	}
	s.leave(nil)
	// It may have acknowledged more meanwhile, on the Stream that is left now.
	s.acked = max(s.acked, theyHave)
	s.attempts++
	counts := append(number(s.received), number(s.acked)...)
	return s.attempts, newMessage(frameAccept, counts, known.proof(labelServer, resume, challenge, proof, counts)), nil
}
