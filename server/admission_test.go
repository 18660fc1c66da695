package server

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// release ends sessions.
func release(list ...*holding) {
	for _, h := range list {
		h.tunnel.stop <- nil
		<-h.ended
	}
}

// why waits for the end of a session, and returns why the server ended it.
func (h *holding) why(t *testing.T) Why {
	t.Helper()
	var ended *EndedError
	if err := <-h.ended; !errors.As(err, &ended) {
		t.Fatalf("it ends with %v", err)
	}
	return ended.Why
}

// TestAway: a session is away when the last connection that carried it is closed, and goes
// on with the next, whichever way that comes by.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		a := hold(t, s, Client{Key: "A"})
		is := func(about string, away bool, by string, streams int) {
			t.Helper()
			c, n := a.session.Last()
			if got := a.session.Away(); got.IsZero() == away || c.By != by || n != streams {
				t.Errorf("%s: away since %v, by %s, %d so far", about, got, c.By, n)
			}
		}
		is("at first", false, "tls", 1)
		time.Sleep(time.Second)
		a.first.Close()
		a.first.Close()
		<-a.first.Gone()
		is("its connection is closed", true, "tls", 1)
		if since := a.session.Away(); !since.Equal(time.Now()) {
			t.Errorf("away since %v", since)
		}
		if len(s.Sessions()) != 1 {
			t.Error("it is not on the list")
		}
		time.Sleep(time.Minute)
		if silent := a.session.Silent(); silent != time.Minute+time.Second {
			t.Errorf("silent for %v", silent)
		}
		second, _ := connect("ssh", "")
		a.session.Resumed(second)
		is("it is back", false, "ssh", 2)
		third, _ := connect("websocket", "")
		hungUp := false
		second.HangUp = func() { hungUp = true }
		a.session.Resumed(third)
		if !hungUp {
			t.Error("the one that it left was not ended at once")
		}
		second.Close()
		is("a newer one took over", false, "websocket", 3)
		late, _ := connect("line", "")
		late.Close()
		a.session.Resumed(late)
		is("the next took over, and was closed at once", true, "websocket", 3)
		<-third.Gone()
		release(a)
	})
}

// TestAwayGoesFirst: a client with too many sessions loses the one that waits for longest,
// even if another was silent for longer.
func TestAwayGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{PerClient: 3})
		a := hold(t, s, Client{Key: "A"})
		time.Sleep(time.Second)
		b, c := hold(t, s, Client{Key: "A"}), hold(t, s, Client{Key: "A"})
		c.first.Close()
		time.Sleep(time.Second)
		b.first.Close()
		d := hold(t, s, Client{Key: "A"})
		if why := c.why(t); why != WhyReplaced {
			t.Errorf("it ends as %v", why)
		}
		e := hold(t, s, Client{Key: "A"})
		if why := b.why(t); why != WhyReplaced {
			t.Errorf("the next ends as %v", why)
		}
		release(a, d, e)
	})
}

// TestFullAway: who waits in a full server gives way to who comes, whoever that is; who is
// there does not.
func TestFullAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Sessions: 2})
		a, b := hold(t, s, Client{Key: "A"}), hold(t, s, Client{Key: "B"})
		a.first.Close()
		c := hold(t, s, Client{Key: "C"})
		if why := a.why(t); why != WhyCrowded {
			t.Errorf("it ends as %v", why)
		}
		var full *FullError
		if err := s.Hold(t.Context(), Client{Key: "D"}, nobody(), nil); !errors.As(err, &full) {
			t.Errorf("one more: %v", err)
		}
		release(b, c)
	})
}

// TestCrowded: no more sessions wait than may, those of one key and all together; the ones
// that do for longest go.
func TestCrowded(t *testing.T) {
	for about, c := range map[string]struct {
		most int
		key  func(i int) string
	}{
		"of one key": {awayPerClient, func(int) string { return "A" }},
		"in all":     {awayMost, func(i int) string { return strings.Repeat("x", i) }},
	} {
		t.Run(about, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{Sessions: 2 * awayMost, PerClient: 2 * awayPerClient})
				there := hold(t, s, Client{Key: c.key(0)})
				var list []*holding
				for i := range c.most + 2 {
					time.Sleep(time.Millisecond)
					list = append(list, hold(t, s, Client{Key: c.key(i)}))
				}
				for _, h := range list {
					time.Sleep(time.Millisecond)
					h.first.Close()
					h.session.Lost(io.EOF)
				}
				for _, h := range list[:2] {
					if why := h.why(t); why != WhyCrowded {
						t.Errorf("it ends as %v", why)
					}
				}
				synctest.Wait()
				if n := len(s.Sessions()); n != c.most+1 {
					t.Errorf("%d are left", n)
				}
				release(append(list[2:], there)...)
			})
		})
	}
}

// TestResumeCounted: attempts to continue are counted by way and result, and those that
// fail are logged once.
func TestResumeCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
		a := hold(t, s, Client{Key: "A"})
		c := NewConnection(sink{}, "tls", "192.0.2.1:5", netip.Addr{})
		s.Resume(c, "A", ResumeDone, nil)
		for range 3 {
			s.Resume(c, "A", ResumeForged, errors.New("no proof"))
		}
		if n := strings.Count(log.String(), "not continued"); n != 1 {
			t.Errorf("it is logged %d times", n)
		}
		a.first.Close()
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(s)
		got := make(map[string]float64)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"bodkin_resumes_total tls forged": 3, "bodkin_resumes_total tls resumed": 1, "bodkin_sessions tls": 1, "bodkin_sessions_away": 1,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		release(a)
	})
}
