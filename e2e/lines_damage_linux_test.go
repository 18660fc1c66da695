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
	f := &foreground{Cmd: w.Laptop.Command(within(w.t, 2*patience), "bodkin", append([]string{"up"}, args...)...).As("me")}
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
				near := w.upHere(onLine...)
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
