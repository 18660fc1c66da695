// Package keeper lets a far half outlive the login that started it: a process of its
// own holds the session, and each login hands it its connection.
//
//	near half ==== ssh ==== sshd                 sshd ==== ssh ==== near half, again
//	                         | stdin, stdout       |
//	                       login                 login
//	                         | descriptors         | descriptors
//	                         +------> keeper <-----+
//
//	keeper.go          what a login hands over
//	login_linux.go     the login's process: Begin, Continue
//	start_linux.go     it starts a keeper, which holds nothing else of the login
//	forbidden.go       where nothing may outlive a login
//	keeper_linux.go    the keeper's process: Serve
//	socket_linux.go    how it is found, and by whom
//	held_linux.go      what is held on this machine: List, End
//	wire.go            what they say to each other
//
// A login's octets are not copied on their way: the keeper reads and writes the
// descriptors that sshd gave to the login, and the login's process waits until the
// keeper has let go of them. Where TLS is inside, only the login's process knows
// its keys, and relays.
//
// Whoever may log in as the user may also kill the keeper, or trace it. What the keeper adds
// is that nobody takes over a session by chance: a login must have the same settings
// as the one that began it, and the same key where TLS has shown one; and whether it is the same near
// half, the session itself finds out.
package keeper

import (
	"encoding/json"
	"time"
)

// A Login is what the far half knows of the one that started it.
type Login struct {
	// Settings are what the far half may do at this login, for Serve's run. Only a login
	// with the same continues a session.
	Settings json.RawMessage `json:"settings"`

	// Key is the peer's public key, where TLS has proved that it holds it. Only a login
	// with the same continues a session.
	Key []byte `json:"key,omitempty"`

	// Hold is the most that a session is held without a connection.
	Hold time.Duration `json:"hold"`
}

// An ImpossibleError is why nothing can outlive this login. The caller's Stream is as it
// was.
type ImpossibleError struct {
	Reason string // printable, as in "it cannot be held there: REASON"
	Err    error  // may be nil
}

func (e *ImpossibleError) Error() string {
	return "the far half cannot outlive its login: " + e.Reason
}
func (e *ImpossibleError) Unwrap() error { return e.Err }

// A Held is a far half that a keeper holds.
type Held struct {
	ID       string        `json:"id"` // of its session
	PID      int           `json:"pid"`
	UID      int           `json:"uid"` // whose it is
	Since    time.Time     `json:"since"`
	Attached bool          `json:"attached"`      // there is a connection
	Lost     time.Time     `json:"lost,omitzero"` // since when there is none
	Grace    time.Duration `json:"grace"`         // how long after that it ends by itself

	path string // of its socket
}

// Left is how long it waits for somebody to come back; 0 if there is a connection.
func (h Held) Left() time.Duration {
	if h.Attached {
		return 0
	}
	return max(0, time.Until(h.Lost.Add(h.Grace)))
}
