package report

import "errors"

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
)

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
