package session

import (
	"context"
	"errors"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

type Session struct{ below carrier.Stream }

func (s *Session) Stream() carrier.Stream { return s.below }
func (s *Session) Close() error           { return s.below.Close() }

func Open(ctx context.Context, s carrier.Stream, o Options) (*Session, Terms, error) {
	return &Session{s}, Terms{}, nil
}
func (s *Session) Attach(ctx context.Context, stream carrier.Stream) error {
	return errors.ErrUnsupported
}

type Caller struct{}

func Greet(ctx context.Context, s carrier.Stream) (*Caller, error) { return nil, errors.ErrUnsupported }
func (c *Caller) Plain() bool                                      { return true }
func (c *Caller) Stream() carrier.Stream                           { return carrier.Stream{} }
func (c *Caller) Resumes() (ID, bool)                              { return ID{}, false }
func (c *Caller) Wants() time.Duration                             { return 0 }
func (c *Caller) Accept(ctx context.Context, t Terms, o Options) (*Session, error) {
	return nil, errors.ErrUnsupported
}
func (c *Caller) Refuse(err error)                             {}
func (s *Session) Resume(ctx context.Context, c *Caller) error { return errors.ErrUnsupported }
func (s *Session) ID() ID                                      { return ID{} }
func (s *Session) Probe(patience time.Duration)                {}
func (s *Session) Drop(cause error)                            {}
func (s *Session) Done() <-chan struct{}                       { return nil }
func (s *Session) Err() error                                  { return nil }
func (s *Session) Stats() Stats                                { return Stats{} }
