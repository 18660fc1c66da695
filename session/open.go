package session

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"fmt"

	"github.com/bodkin-net/bodkin/carrier"
)

// Open begins a Session on s as the client. It owns s from then on, and closes it when
// it fails or when ctx ends before the other side has agreed.
func Open(ctx context.Context, s carrier.Stream, o Options) (*Session, Terms, error) {
	var opened *Session
	var terms Terms
	err := within(ctx, s, func() error {
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return fmt.Errorf("session: %w", err)
		}
		hello := newMessage(frameNew, versions, milliseconds(o.Grace), key.PublicKey().Bytes())
		if _, err := s.Write(hello); err != nil {
			return fmt.Errorf("session: greeting the other side: %w", err)
		}
		welcome, err := expect(s, frameWelcome)
		if err != nil {
			return err
		}
		version, p := welcome.payload()[0], welcome.payload()[1:]
		if version != Version {
			return fmt.Errorf("%w: we speak %d, the other side chose %d", errVersion, Version, version)
		}
		terms.Grace, p = duration(p), p[4:]
		id, p := ID(p), p[len(ID{}):]
		shared, err := agree(key, p[:keyLen])
		if err != nil {
			return err
		}
		terms.Note = carrier.Printable(string(p[keyLen:]))
		first, err := newSecret(shared, hello, welcome)
		if err != nil {
			return fmt.Errorf("session: %w", err)
		}
		opened = newSession(id, first, terms.Grace, o)
		return nil
	})
	if err != nil {
		s.Close()
		return nil, Terms{}, err
	}
	opened.begin(s)
	return opened, terms, nil
}

// agree makes of our key and the peer's what both then know (RFC 7748, section 6.1).
func agree(key *ecdh.PrivateKey, peer []byte) ([]byte, error) {
	public, err := ecdh.X25519().NewPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("session: the other side's key: %w", err)
	}
	shared, err := key.ECDH(public)
	if err != nil {
		return nil, fmt.Errorf("session: the other side's key: %w", err)
	}
	return shared, nil
}

// Attach goes on with the Session on a new Stream to its peer, as the client. The
// Stream that there was, if any, is closed once the new one's far end has proved what
// it is, and not disturbed before. Attach owns stream, and closes it when it fails or
// when ctx ends first.
//
// It returns ErrUnknown when the peer holds the Session no more: then nothing brings it
// back, and the caller closes it; ErrForged when the far end is not the peer, or does
// not believe that we are; net.ErrClosed after Close; else why the stream failed.
func (s *Session) Attach(ctx context.Context, stream carrier.Stream) error {
	err := within(ctx, stream, func() error { return s.attach(stream) })
	if err != nil {
		stream.Close()
	}
	return err
}

func (s *Session) attach(stream carrier.Stream) error {
	nonce := make([]byte, nonceLen)
	rand.Read(nonce)
	resume := newMessage(frameResume, versions, s.id[:], nonce)
	if _, err := stream.Write(resume); err != nil {
		return fmt.Errorf("session: greeting the other side: %w", err)
	}
	challenge, err := expect(stream, frameChallenge)
	if err != nil {
		return err
	}
	if version := challenge.payload()[0]; version != Version {
		return fmt.Errorf("%w: we speak %d, the other side chose %d", errVersion, Version, version)
	}

	s.mu.Lock()
	if err := s.over(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.attempts++
	attempt, generation, known, received := s.attempts, s.generation, s.secret, s.received
	s.mu.Unlock()

	said := number(received)
	proof := newMessage(frameProof, said, known.proof(labelClient, resume, challenge, said))
	if _, err := stream.Write(proof); err != nil {
		return fmt.Errorf("session: answering the other side: %w", err)
	}
	accept, err := expect(stream, frameAccept)
	if err != nil {
		return err
	}
	counts, theirs := accept.payload()[:16], accept.payload()[16:]
	if !known.proves(theirs, labelServer, resume, challenge, proof, counts) {
		return ErrForged
	}
	theyHave, theySend := binary.BigEndian.Uint64(counts), binary.BigEndian.Uint64(counts[8:])

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation == generation {
		next, err := s.secret.next()
		if err != nil {
			return fmt.Errorf("session: %w", err)
		}
		s.secret, s.generation = next, generation+1
	}
	if err := s.over(); err != nil {
		return err
	}
	if attempt < s.attached {
		return fmt.Errorf("session: another connection has come first")
	}
	if theyHave < s.acked || theyHave > s.sent || theySend < received || theySend > s.received {
		return fmt.Errorf("session: the far side has %d octets and goes on from %d: we sent %d, of which it had %d, and have %d",
			theyHave, theySend, s.sent, s.acked, s.received)
	}
	s.leave(nil)
	s.attached = attempt
	s.acked = theyHave
	a := s.join(stream, s.received-theySend)
	a.ackDue = true // so that the peer sees that its proof has come
	s.nudge()
	return nil
}

// begin makes s, whose octets have all yet to come, carry on its first Stream.
func (s *Session) begin(stream carrier.Stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tasks.Go(s.keep)
	s.join(stream, 0)
}
