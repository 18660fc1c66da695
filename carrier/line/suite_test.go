package line_test

import (
	"context"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/line"
	"github.com/bodkin-net/bodkin/carrier/line/linetest"
)

// Every coding is a carrier like any other.
func TestCarrier(t *testing.T) {
	tests := []struct {
		name    string
		o       line.Options
		there   linetest.Faults
		out, in line.Coding
	}{
		{"clean", line.Options{}, linetest.Faults{}, line.Clean, line.Clean},
		{"escape", line.Options{Coding: line.Escape}, linetest.Faults{}, line.Escape, line.Escape},
		{"armour", line.Options{Coding: line.Armour}, linetest.Faults{}, line.Armour, line.Armour},
		{"lines", line.Options{}, linetest.Faults{LineBuffered: true}, line.Escape, line.Clean},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			carriertest.Test(t, func(t *testing.T) carrier.Stream {
				near, far := linetest.Pipe(tt.there, linetest.Faults{})
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan struct{})
				go func() {
					defer close(served)
					s, _, err := line.Accept(ctx, far, line.Options{})
					if err != nil {
						t.Errorf("Accept: %v", err)
						return
					}
					carriertest.Serve(ctx, s)
					s.Close()
				}()
				s, m, err := line.Dial(ctx, near, tt.o)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { // after the suite has closed s
					cancel()
					<-served
				})
				if m.In.Coding != tt.in || m.Out.Coding != tt.out {
					t.Fatalf("out: %v; in: %v", m.Out, m.In)
				}
				if _, halves := s.ReadWriteCloser.(carrier.CloseWriter); !halves {
					t.Error("its ways do not end one by one")
				}
				return s
			})
		})
	}
}

// A way that needs no coding is the Stream below itself: it costs nothing.
func TestCleanIsTheStreamBelow(t *testing.T) {
	near, far := linetest.Pipe(linetest.Faults{}, linetest.Faults{})
	d, a, _ := measure(t.Context(), near, far, line.Options{}, 0)
	if d.err != nil || a.err != nil {
		t.Fatal(d.err, a.err)
	}
	if d.s.ReadWriteCloser != near.ReadWriteCloser || a.s.ReadWriteCloser != far.ReadWriteCloser {
		t.Error("something lies between")
	}
	d.s.Close()
	a.s.Close()
}
