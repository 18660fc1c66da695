package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// A foreground is a tunnel that runs until something ends it.
type foreground struct {
	*lab.Cmd

	mu   sync.Mutex
	said bytes.Buffer
}

func (f *foreground) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.Write(b)
}

func (f *foreground) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.said.String()
}

// upHere starts a tunnel that does not go into the background.
func (w *world) upHere(args ...string) *foreground {
	w.t.Helper()
	return w.upFor(2*patience, args...)
}

// upFor is upHere for a tunnel that is killed after limit.
func (w *world) upFor(limit time.Duration, args ...string) *foreground {
	w.t.Helper()
	f := &foreground{Cmd: w.Laptop.Command(within(w.t, limit), "bodkin", append([]string{"up"}, args...)...).As("me")}
	f.Stdout, f.Stderr = f, f
	if err := f.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		f.Process.Kill()
		f.Wait()
	})
	return f
}

// damagedBulk is how many octets each way are tried, of which some would be damaged.
const damagedBulk = 20_000_000

// TestDamagedLines carries much over lines that change one bit in 300,000 octets after
// they were measured, in either direction and with each coding: no program gets an
// octet that was not sent. The tunnel ends, whoever met the damage says so, and the
// laptop is as it was.
func TestDamagedLines(t *testing.T) {
	t.Parallel()
	w := newLineWorld(t)
	before := w.snapshot()
	for _, coding := range []struct {
		name   string
		faults lab.Faults
	}{
		{"clean", lab.Faults{FlipEvery: 300_000}},
		{"escaped", lab.Faults{FlipEvery: 300_000, Eat: eaten}},
		{"armoured", lab.Faults{FlipEvery: 300_000, Seven: true}},
	} {
		for direction, chaos := range map[string]lab.Chaos{"there": {Up: coding.faults}, "back": {Down: coding.faults}} {
			t.Run(coding.name+", "+direction, func(t *testing.T) {
				w := w.in(t)
				far := w.farWaits()
				relay := w.relay(chaos)
				defer relay.Close()
				near := w.upHere(append([]string{"--once"}, onLine...)...)
				w.eventually("the tunnel is up", func() bool { return strings.Contains(near.text(), "is up in") })
				var both sync.WaitGroup
				both.Go(func() { w.downloadOrNot(t) })
				both.Go(func() { w.uploadOrNot(t) })
				near.Wait()
				both.Wait()
				far.Wait()
				switch status := near.ProcessState.ExitCode(); {
				case status == 24:
					w.says(near.text(), "bodkin: error: line: ", "damage")
				case status == 19 && direction == "there": // its end may overtake what the far half says
				default:
					t.Errorf("exit status %d, want 24", status)
				}
				w.says(near.text(), "bodkin: hint: ", "as it was")
				if direction == "there" { // else the far half may see no more than an end
					w.says(far.said.String(), "bodkin: error: ")
				}
				w.asBefore(before, "damage")
				w.noProcesses()
			})
		}
	}
}

// mendedBulk is how many octets each way go over a line that damages some of them. After
// each damage the line is made, and measured, anew.
const mendedBulk = 2_000_000

// TestDamagedLinesGoOn is TestDamagedLines for a tunnel that dials again: what is damaged
// is found, the connection given up, and the octets sent again on the next, so that all of
// it comes whole.
func TestDamagedLinesGoOn(t *testing.T) {
	t.Parallel()
	w := newLineWorld(t)
	before := w.snapshot()
	for direction, chaos := range map[string]lab.Chaos{"there": {Up: lab.Faults{FlipEvery: 300_000}}, "back": {Down: lab.Faults{FlipEvery: 300_000, Eat: eaten}}} {
		t.Run(direction, func(t *testing.T) {
			w := w.in(t)
			far := w.farWaits()
			relay := w.relay(chaos)
			defer relay.Close()
			w.up(onLine...)
			session := w.session().Session.ID
			var both sync.WaitGroup
			both.Go(func() {
				if err := w.download(lab.Web4, mendedBulk); err != nil {
					t.Errorf("down: %v", err)
				}
			})
			both.Go(func() {
				if err := w.upload(lab.Web6, mendedBulk); err != nil {
					t.Errorf("up: %v", err)
				}
			})
			both.Wait()
			s := w.session()
			if s.Session.ID != session || s.Session.Streams < 3 {
				t.Errorf("%d connections, the last of session %s: nothing here proves anything of %s", s.Session.Streams, s.Session.ID, session)
			}
			t.Logf("%d connections, %d octets sent again", s.Session.Streams, s.Session.Replayed)
			w.down()
			far.Wait() // it ends by itself
			w.asBefore(before, "damage")
			w.noProcesses()
		})
	}
}

// downloadOrNot fetches what will not come whole: what comes is what was sent.
func (w *world) downloadOrNot(t *testing.T) {
	cmd := w.Laptop.Command(within(t, patience), "curl", "-sS", "-f", "-m", "20", url(lab.Web4, fmt.Sprintf("/bytes/%d?seed=7", damagedBulk))).As("me")
	got, err := cmd.Output()
	if err == nil {
		t.Error("it came whole: nothing here proves anything")
	}
	sent, _ := io.ReadAll(io.LimitReader(lab.Bytes(damagedBulk, 7), int64(len(got))))
	if !bytes.Equal(got, sent) {
		t.Errorf("of %d octets that came down some are not as they were sent", len(got))
	}
}

// uploadOrNot posts what will not arrive whole. Its octets carry their own hash, which
// the web host would take for wrong if one of them were.
func (w *world) uploadOrNot(t *testing.T) {
	sent := sha256.New()
	cmd := w.Laptop.Command(within(t, patience), "curl", "-sS", "-f", "-m", "20", "-X", "POST", "-T", "-", url(lab.Web6, "/upload")).As("me")
	cmd.Stdin = io.TeeReader(lab.Bytes(damagedBulk, 8), sent)
	out, err := cmd.Output()
	if err != nil {
		return
	}
	var came lab.Upload
	if json.Unmarshal(out, &came) != nil || came.SHA256 != hex.EncodeToString(sent.Sum(nil)) {
		t.Errorf("%d octets came up, and not as they were sent", came.Length)
	}
}
