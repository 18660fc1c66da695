package keeper

// What is said to a keeper, on a Unix socket of packets, as JSON, files beside it:
//
//	attach    two files come along, to read and to write: the near half's connection. The
//	          answer comes when the keeper has let go of it, as an ending
//	status    the answer is a Held
//	end       the answer comes when all has been taken back, as an ending
//
// The keeper that a login starts has its first connection from birth, says on it that it
// is ready, or why not, as an ending, and is then asked to attach. Whoever is at the
// other end of a connection has let go of all if it ends.
type request struct {
	Verb     string  `json:"verb"`
	Login    Login   `json:"login,omitzero"`     // attach
	Greeting []byte  `json:"greeting,omitempty"` // attach: octets that were read of the connection already
	Rate     float64 `json:"rate,omitempty"`     // attach: carrier.Stream's
}

// The verbs of a request.
const (
	verbAttach = "attach"
	verbStatus = "status"
	verbEnd    = "end"
)

// An ending is how something ended: well, if there is no Error.
type ending struct {
	Ended  bool   `json:"ended,omitempty"` // it was the far half; else one of its connections
	Error  string `json:"error,omitempty"`
	Hint   string `json:"hint,omitempty"`   // what to try
	Status int    `json:"status,omitempty"` // what a login exits with
}

// An endError is an ending that was bad, where the login was.
type endError struct{ ending }

func (e *endError) Error() string { return e.ending.Error }

// ExitStatus is that of the far half.
func (e *endError) ExitStatus() int { return e.Status }
