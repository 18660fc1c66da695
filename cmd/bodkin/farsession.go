package main

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/keeper"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/endpoint/usernat"
	"github.com/bodkin-net/bodkin/link/native"
	"github.com/bodkin-net/bodkin/session"
)

// This file has what comes between a near half's connection and the tunnel: the
// session, which is held by a process of its own where that can be.

// defaultHold is the most that a session is held for who did not come back: a walk
// from one network to the next, a machine that starts anew.
const defaultHold = 10 * time.Minute

// greetTime is how long a near half may take until it has said what it wants, beside what
// a slow line needs.
const greetTime = 30 * time.Second

// noHold is why a session is not held.
const noHold = "its own settings do not permit it (--hold 0)"

// settings are what of a farHalf a keeper's process is told.
type settings struct {
	Kernel bool           `json:"kernel,omitempty"`
	Grant  native.Asks    `json:"grant,omitempty"`
	Policy usernat.Policy `json:"policy"`
}

// meet finds out what the near half wants of the connection: to begin a session, to
// continue one, or, as of old, a tunnel that ends with it. It returns when the connection is
// done with, which need not be the tunnel's end.
func (f *farHalf) meet(ctx context.Context) error {
	caller, err := greet(ctx, f.stream)
	if err != nil {
		return err
	}
	if caller.Plain() {
		f.stream = caller.Stream()
		return f.run(ctx)
	}
	text, err := json.Marshal(settings{f.kernel, f.grant, f.policy})
	if err != nil {
		return err
	}
	login := keeper.Login{Settings: text, Key: f.peer, Hold: f.hold}
	if id, resumes := caller.Resumes(); resumes {
		if f.hold == 0 {
			return refuse(caller)
		}
		return keeper.Continue(ctx, caller, id, login)
	}
	note := ""
	switch {
	case caller.Wants() == 0:
	case f.hold == 0:
		note = noHold
	default:
		err := keeper.Begin(ctx, caller, login)
		var impossible *keeper.ImpossibleError
		if !errors.As(err, &impossible) {
			return err
		}
		note = impossible.Reason
	}
	s, err := accept(ctx, caller, session.Terms{Note: note})
	if err != nil {
		return err
	}
	defer s.Close()
	f.stream = s.Stream()
	return f.run(ctx)
}

// greet reads what the near half begins with.
func greet(ctx context.Context, s carrier.Stream) (*session.Caller, error) {
	ctx, stop := context.WithTimeout(ctx, greetTime+s.Patience())
	defer stop()
	return session.Greet(ctx, s)
}

// accept begins a session.
func accept(ctx context.Context, c *session.Caller, t session.Terms) (*session.Session, error) {
	ctx, stop := context.WithTimeout(ctx, greetTime)
	defer stop()
	return c.Accept(ctx, t, session.Options{})
}

// refuse tells a near half that its session is not held, on its connection alone.
func refuse(c *session.Caller) error {
	c.Refuse(session.ErrUnknown)
	return report.Silent(session.ErrUnknown)
}

// runHeld is the far half in a keeper's process.
func runHeld(ctx context.Context, text json.RawMessage, s carrier.Stream) error {
	var had settings
	if err := json.Unmarshal(text, &had); err != nil {
		return err
	}
	f := farHalf{stream: s, kernel: had.Kernel, grant: had.Grant, policy: had.Policy}
	return f.run(ctx)
}
