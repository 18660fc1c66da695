package line_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/line/linetest"
)

// What the users insist on, and what that comes to.
func TestWishes(t *testing.T) {
	eats := linetest.Faults{Eat: eaten}
	seven := linetest.Faults{SevenBit: true}
	tests := []struct {
		name       string
		faults     linetest.Faults
		dial, wait line.Coding
		out        line.Coding
		says       string // in the refusal
	}{
		{name: "nothing", out: line.Clean},
		{name: "armour where none is needed", dial: line.Armour, out: line.Armour},
		{name: "the accepting half's", wait: line.Armour, out: line.Armour},
		{name: "the same", dial: line.Escape, wait: line.Escape, out: line.Escape},
		{name: "different ones", dial: line.Escape, wait: line.Armour, says: "insists on armour, this one on escape"},
		{name: "clean, and it is", dial: line.Clean, out: line.Clean},
		{name: "clean, and it is not", faults: eats, dial: line.Clean, says: "needs escape, since it changes 14 of the 256 octets; asked for: clean"},
		{name: "clean, the accepting half's, and it is not", faults: eats, wait: line.Clean, says: "asked for: clean"},
		{name: "escape, which is not enough", faults: seven, dial: line.Escape, says: "needs armour"},
		{name: "clean, and it wants lines", faults: linetest.Faults{LineBuffered: true}, dial: line.Clean, says: "and wants lines"},
		{name: "none that there is", dial: 7, says: "there is no coding 7"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := linetest.Pipe(tt.faults, linetest.Faults{})
				accepted := make(chan half, 1)
				go func() {
					var a half
					a.s, a.m, a.err = line.Accept(t.Context(), far, line.Options{Coding: tt.wait})
					accepted <- a
				}()
				var said []string
				s, m, err := line.Dial(t.Context(), near, line.Options{Coding: tt.dial, Log: func(text string) { said = append(said, text) }})
				a := <-accepted
				if tt.says != "" {
					var refused *carrier.RefusedError
					if !errors.As(err, &refused) || refused.Layer != "line" || !strings.Contains(err.Error(), tt.says) {
						t.Errorf("%T %v; want %q", err, err, tt.says)
					}
					if a.err == nil {
						t.Error("Accept has not noticed")
					}
					return
				}
				if err != nil || a.err != nil {
					t.Fatal(err, a.err)
				}
				if m.Out.Coding != tt.out || a.m.In.Coding != tt.out {
					t.Errorf("out: %v; it says %v", m.Out, a.m.In)
				}
				if len(said) != 1 || !strings.Contains(said[0], m.Out.String()) {
					t.Errorf("logged %q", said)
				}
				carry(t, s, a.s, 1000)
				s.Close()
				a.s.Close()
			})
		})
	}
}

// A way on which messages cannot be said is refused before anything is.
func TestNoLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := linetest.Pipe(linetest.Faults{}, linetest.Faults{})
		near.Unsafe = set('x')
		d, a, _ := measure(t.Context(), near, far, line.Options{}, 0)
		var refused *carrier.RefusedError
		if !errors.As(d.err, &refused) || a.err == nil {
			t.Errorf("%v, %v", d.err, a.err)
		}
	})
}
