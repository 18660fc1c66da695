//go:build unix

package trust

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// within is how soon a change of the file must be seen.
const within = time.Second

// heard is a place for what a Watcher says.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) say(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, err.Error())
}

func (h *heard) all() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.lines, "\n")
}

// write replaces the file's text where it stands.
func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// watched starts to watch a file with that text, which ends with the test.
func watched(t *testing.T, text string) (w *Watcher, file string, h *heard) {
	t.Helper()
	file = filepath.Join(room(t), ClientsFile)
	write(t, file, text)
	h = new(heard)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := Watch(ctx, file, h.say)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); w.Wait() })
	return w, file, h
}

// becomes waits, woken by the Watcher alone, until key n is let in or not.
func becomes(t *testing.T, w *Watcher, n byte, in bool) {
	t.Helper()
	end := time.After(within)
	for {
		clients, changed := w.Now()
		if _, err := clients.Check(testKey(n), time.Now()); (err == nil) == in {
			return
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("key %d let in: still %v", n, !in)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w, file, h := watched(t, line(1)+"\n"+line(2)+"\n")
	becomes(t, w, 1, true)

	write(t, file, line(1)+"\n") // 2 is revoked
	becomes(t, w, 2, false)
	becomes(t, w, 1, true)

	a, err := LoadAuthorizedClients(file) // a new file takes the name
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Add(Client{Key: testKey(3), Flows: 7}); err != nil {
		t.Fatal(err)
	}
	if err := a.Save(); err != nil {
		t.Fatal(err)
	}
	becomes(t, w, 3, true)
	if c, err := w.Check(testKey(3), netip.Addr{}); err != nil || c.Flows != 7 {
		t.Errorf("%+v, %v", c, err)
	}

	write(t, file, line(1)+"\nnonsense\n"+line(3)+" \x1b\n") // 3's line is not understood: out
	becomes(t, w, 3, false)
	becomes(t, w, 1, true)

	if err := os.Chmod(file, 0o666); err != nil { // not to be used: as before
		t.Fatal(err)
	}
	for end := time.Now().Add(within); !strings.Contains(h.all(), "others may write it"); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("said:\n%s", h.all())
		}
	}
	becomes(t, w, 1, true)
	write(t, file, line(2)+"\n")
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	becomes(t, w, 1, false)
	becomes(t, w, 2, true)

	if err := os.Remove(file); err != nil { // nobody
		t.Fatal(err)
	}
	becomes(t, w, 2, false)
	write(t, file, line(4))
	becomes(t, w, 4, true)

	said := h.all()
	for _, want := range []string{ClientsFile + ":2: there is no key after", ClientsFile + ":3: it holds the character U+001B", "who was let in before still is"} {
		if strings.Count(said, want) != 1 {
			t.Errorf("%q was said %d times:\n%s", want, strings.Count(said, want), said)
		}
	}
}

// TestWatchWithoutEvents: where the system tells nothing, as of a directory that took the
// other's place, changes are seen all the same.
func TestWatchWithoutEvents(t *testing.T) {
	t.Parallel()
	w, file, _ := watched(t, line(1)+"\n")
	dir := filepath.Dir(file)
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, file, line(2)+"\n")
	becomes(t, w, 2, true)
	becomes(t, w, 1, false)
	write(t, file, line(1)+"\n")
	becomes(t, w, 2, false)
}

// TestWatchClock: a key that expires wakes who waits, as a revoked one does.
func TestWatchClock(t *testing.T) {
	t.Parallel()
	soon := time.Now().Add(2 * time.Second).Truncate(time.Second)
	w, _, _ := watched(t, fmt.Sprintf("expires=%q %s\n", FormatExpiry(soon), line(1)))
	clients, changed := w.Now()
	if _, err := clients.Check(testKey(1), time.Now()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	case <-time.After(time.Until(soon) + within):
		t.Fatal("the key has expired, and nobody was told")
	}
	if late := time.Since(soon); late < 0 {
		t.Errorf("told %v too early", -late)
	}
	becomes(t, w, 1, false)
}

// TestWatchRewritten: a file that an editor puts aside, or cuts off, before it writes the
// new one is not taken for an empty one.
func TestWatchRewritten(t *testing.T) {
	t.Parallel()
	w, file, _ := watched(t, line(1)+"\n")
	clients, changed := w.Now()
	for range 5 {
		if err := os.Rename(file, file+"~"); err != nil {
			t.Fatal(err)
		}
		write(t, file, "")
		write(t, file, line(1)+"\n")
	}
	select {
	case <-changed:
		t.Error("who only saves has ended sessions")
	case <-time.After(2 * pollEvery):
	}
	if now, _ := w.Now(); now != clients {
		t.Error("other clients")
	}
}

// TestWatchRestless: who writes without end keeps nobody in.
func TestWatchRestless(t *testing.T) {
	t.Parallel()
	w, file, _ := watched(t, line(1)+"\n")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			os.WriteFile(file, fmt.Appendf(nil, "# %d\n", i), 0o600)
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	becomes(t, w, 1, false)
	cancel()
	<-done
}

func TestWatchBeginning(t *testing.T) {
	t.Parallel()
	file := filepath.Join(room(t), "none", ClientsFile)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := Watch(ctx, file, nil)
	if err != nil {
		t.Fatal(err)
	}
	becomes(t, w, 1, false)
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, file, line(1))
	becomes(t, w, 1, true)
	cancel()
	w.Wait()

	if err := os.Chmod(file, 0o622); err != nil {
		t.Fatal(err)
	}
	if _, err := Watch(t.Context(), file, nil); err == nil {
		t.Error("a file that others may write is watched")
	}
}
