//go:build !linux

package keeper

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/session"
)

var errOther = errors.New("keeper: this system has none yet")

// Begin starts nothing.
func Begin(context.Context, *session.Caller, Login) error {
	return &ImpossibleError{"no process of this system's can take over a login's connection yet", errOther}
}

// Continue finds nothing to continue.
func Continue(_ context.Context, c *session.Caller, _ session.ID, _ Login) error {
	c.Refuse(session.ErrUnknown)
	return session.ErrUnknown
}

// Serve has nothing to serve.
func Serve(context.Context, func(context.Context, json.RawMessage, carrier.Stream) error) error {
	return errOther
}

// List finds nothing held.
func List() []Held { return nil }

// End ends nothing.
func End(Held) error { return errOther }
