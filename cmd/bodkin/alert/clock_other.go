//go:build !linux

package alert

import "time"

var beginning = time.Now()

// now takes the wall clock for the one that runs on: a machine whose time is set ahead
// looks as if it had slept, which costs one question.
func now() moment {
	t := time.Now()
	return moment{awake: t.Sub(beginning), whole: time.Duration(t.UnixNano())}
}
