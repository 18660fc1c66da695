package report

import (
	"errors"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/chat"
)

// A Layer is a part of the tunnel that can fail.
type Layer struct {
	Name   string // what the user sees
	Status int    // what the program exits with
}

// The layers, from the bottom up. Their exit statuses are in the manual.
var (
	Privilege = Layer{"privilege", 10}
	Reach     = Layer{"reach", 11}
	SSH       = Layer{"ssh", 12}
	FarHalf   = Layer{"far half", 13}
	Link      = Layer{"link", 14}
	Addresses = Layer{"addresses", 15}
	Device    = Layer{"device", 16}
	Routes    = Layer{"routes", 17}
	DNS       = Layer{"dns", 18}
	Tunnel    = Layer{"tunnel", 19}

	// On ways other than plain ssh.
	Proxy    = Layer{"proxy", 20}    // a proxy refused, or refused the password
	Login    = Layer{"login", 21}    // a login refused the password
	Dialogue = Layer{"dialogue", 22} // a prompt that never came, or an answer that a script gives up at
	HangUp   = Layer{"hang-up", 23}  // the other side closed in the middle of a dialogue
	Line     = Layer{"line", 24}     // the way does not carry what must be carried
	Key      = Layer{"key", 25}      // the far side is not who it should be, or does not know us
)

// OfWay finds the layer of an error of the way to the far side by its type. It
// reports false if the type says nothing.
func OfWay(err error) (Layer, bool) {
	var layered *layerError
	var refused *carrier.RefusedError
	var hangUp *carrier.HangUpError
	var silence *carrier.SilenceError
	var unreached *carrier.UnreachedError
	var aborted *chat.AbortError
	switch {
	case errors.As(err, &layered):
		return layered.layer, true
	case errors.As(err, &hangUp):
		return HangUp, true
	case errors.As(err, &silence), errors.As(err, &aborted):
		return Dialogue, true
	case errors.As(err, &unreached):
		return Reach, true
	case errors.As(err, &refused):
		for _, l := range []Layer{Proxy, Login, Line, Key, SSH, FarHalf} {
			if refused.Layer == l.Name {
				return l, true
			}
		}
		if refused.Layer == "telnet" { // it negotiates without end
			return Dialogue, true
		}
	}
	return Layer{}, false
}

// A layerError says which layer failed, why, and what to try.
type layerError struct {
	layer Layer
	err   error
	hint  string
}

func (e *layerError) Error() string { return e.err.Error() }
func (e *layerError) Unwrap() error { return e.err }

// At wraps err with its layer; hint may be empty. Of no error it makes none.
func At(l Layer, err error, hint string) error {
	if err == nil {
		return nil
	}
	return &layerError{l, err, hint}
}

// HintOf returns the next thing to try that err was given with its layer, if any.
func HintOf(err error) string {
	var l *layerError
	if errors.As(err, &l) {
		return l.hint
	}
	return ""
}
