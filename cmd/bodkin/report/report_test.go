package report

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/config"
)

// TestSay: one line each for the error and the hint, the layer first, and
// nothing of the peer's that a terminal would act on.
func TestSay(t *testing.T) {
	for _, c := range []struct {
		err    error
		want   string
		status int
	}{
		{errors.New("plain"), "bodkin: error: plain\n", 1},
		{At(SSH, errors.New("the key is wrong"), "try another"), "bodkin: error: ssh: the key is wrong\nbodkin: hint: try another\n", 12},
		{At(SSH, errors.New("ssh: said once"), ""), "bodkin: error: ssh: said once\n", 12},
		{At(FarHalf, errors.New("it said \x1b]0;owned\x07\nbodkin: error: forged"), ""), "bodkin: error: far half: it said ?]0;owned? bodkin: error: forged\n", 13},
		{At(FarHalf, &carrier.RefusedError{Layer: "far half", Reason: "no room", Hint: "make some"}, ""), "bodkin: error: far half: no room\nbodkin: hint: make some\n", 13},
		{&config.Error{Reason: "no", Hint: "yes"}, "bodkin: error: no\nbodkin: hint: yes\n", 2},
		{Silent(At(Tunnel, errors.New("said before"), "")), "", 19},
	} {
		var w bytes.Buffer
		Say(&w, c.err)
		if w.String() != c.want || Status(c.err) != c.status {
			t.Errorf("%v: exit status %d, said\n%swant %d,\n%s", c.err, Status(c.err), w.String(), c.status, c.want)
		}
	}
}
