package e2e_test

import (
	"fmt"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// TestFirstHopStaysOutside: whatever makes the connection to the first hop, it stays outside
// the tunnel that it carries, and nothing else does, also when a hostile DHCP server injects
// routes more specific than any of ours.
func TestFirstHopStaysOutside(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		world func(t *testing.T) *world
		start func(w *world)
		args  []string
	}{
		{"a socket of ours to a web proxy", proxyWorld, func(w *world) { w.squid(lab.SquidOptions{}) }, []string{"--via", "http://proxy", overSSH}},
		{"nc", proxyWorld, func(w *world) { w.squid(lab.SquidOptions{}) }, []string{"--via", "cmd:nc -X connect -x proxy:3128 gw 22", overSSH}},
		{"ssh to a jump host", func(t *testing.T) *world {
			w := newWorld(t, lab.Options{})
			if err := w.Gateway.Install(program); err != nil {
				t.Fatal(err)
			}
			w.pair("far")
			return w
		}, func(w *world) { w.farListens() }, []string{"--via", "ssh://me@gw", "--known-as", "far", fmt.Sprintf("tls://localhost:%d", farPort)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.world(t)
			tt.start(w)
			before := w.snapshot()
			w.clean("it comes up by "+tt.name, func() { w.up(tt.args...) })
			w.clean("it is up by "+tt.name, w.probe)
			w.injectRoutes()
			w.clean("foreign routes are injected", func() {
				w.probe()
				if err := w.download(lab.Web4, 1_000_000); err != nil {
					t.Error(err)
				}
				if err := w.upload(lab.Web6, 1_000_000); err != nil {
					t.Error(err)
				}
			})
			w.clean("it goes down", w.down)
			if after := w.snapshot(); after == before {
				t.Error("the injected routes are gone: nothing was injected")
			}
			w.noProcesses()
		})
	}
}
