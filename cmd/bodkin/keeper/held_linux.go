package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/passing"
)

// Bounds of what others ask for.
const (
	askTime = 5 * time.Second  // to ask, and to be told how it is
	endTime = 20 * time.Second // until all has been taken back
)

// List returns what the present user's keepers hold on this machine, and for root
// everybody's; the oldest first. What killed keepers left is removed.
func List() []Held {
	var list []Held
	for _, p := range all() {
		list = append(list, p.list()...)
	}
	slices.SortStableFunc(list, func(a, b Held) int { return a.Since.Compare(b.Since) })
	return list
}

// list asks all keepers of a place.
func (p place) list() (list []Held) {
	if !p.closed() {
		return nil
	}
	entries, _ := os.ReadDir(p.dir)
	answered := map[string]bool{}
	for _, e := range entries {
		if e.Type() != os.ModeSocket || !birthName.MatchString(e.Name()) {
			continue
		}
		h, err := ask[Held](p, e.Name(), verbStatus, askTime)
		if file := h.ID + suffix; err == nil && sessionName.MatchString(file) {
			answered[file] = true
			h.UID, h.path = p.uid, filepath.Join(p.dir, file)
			list = append(list, h)
		}
	}
	for _, e := range entries {
		if e.Type() == os.ModeSocket && !birthName.MatchString(e.Name()) && !answered[e.Name()] {
			if conn, err := p.dial(e.Name()); err == nil { // else it was left over, and is not any more
				conn.Close()
			}
		}
	}
	return list
}

// End ends what is held, and returns when all that it did to the machine has been taken
// back.
func End(h Held) error {
	p := place{filepath.Dir(h.path), h.UID}
	if !p.closed() {
		return fmt.Errorf("keeper: %s: not a directory of one user's alone", p.dir)
	}
	e, err := ask[ending](p, filepath.Base(h.path), verbEnd, endTime)
	switch {
	case err != nil:
		return fmt.Errorf("keeper: process %d does not say that it ends: %w", h.PID, err)
	case e.Error != "":
		return errors.New(carrier.Printable(e.Error))
	}
	return nil
}

// ask asks a keeper one thing.
func ask[T any](p place, file, verb string, patience time.Duration) (answer T, err error) {
	conn, err := p.dial(file)
	if err != nil {
		return answer, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if err := passing.Send(conn, request{Verb: verb}); err != nil {
		return answer, err
	}
	answer, files, err := passing.Receive[T](conn)
	passing.CloseAll(files)
	return answer, err
}

// maxDetached is how many keepers of one user may be without a connection: each is some
// 15 MB of memory. They are what near halves left that were killed, or that are on
// their way back.
const maxDetached = 16

// makeRoom ends those who have been without a connection for longest, so that one more
// may be: that of the session id, whose keeper calls it at its start.
func makeRoom(ctx context.Context, id string) {
	var waiting []Held
	for _, p := range own() {
		for _, h := range p.list() {
			if !h.Attached && h.ID != id {
				waiting = append(waiting, h)
			}
		}
	}
	slices.SortFunc(waiting, func(a, b Held) int { return a.Lost.Compare(b.Lost) })
	for len(waiting) >= maxDetached && ctx.Err() == nil {
		End(waiting[0]) // one that does not end is killed by nobody, and counts no more
		waiting = waiting[1:]
	}
}
