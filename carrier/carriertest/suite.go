package carriertest

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// within is how long a call may take that something should have ended: far more
// than any Close may take.
const within = 20 * time.Second

// Test runs the suite. open connects to a far side that runs Serve; the suite
// closes the Stream.
func Test(t *testing.T, open func(t *testing.T) carrier.Stream) {
	for _, c := range []struct {
		name string
		test func(*testing.T, carrier.Stream)
	}{
		{"OneOctetWrites", oneOctetWrites},
		{"LargeWrites", largeWrites},
		{"WriteBuffers", writeBuffers},
		{"BothWaysAtOnce", bothWaysAtOnce},
		{"PeerLeaves", peerLeaves},
		{"CloseWakesRead", closeWakesRead},
		{"CloseWakesWrite", closeWakesWrite},
		{"AfterClose", afterClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			watch := time.AfterFunc(2*within, func() { panic(t.Name() + ": the carrier hangs") })
			defer watch.Stop()
			defer s.Close()
			c.test(t, s)
		})
	}
}

// say sends a line to Serve.
func say(t *testing.T, s carrier.Stream, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(s, format+"\n", args...); err != nil {
		t.Fatalf("writing to the peer: %v", err)
	}
}

// expect reads len(want) octets and compares.
func expect(t *testing.T, s carrier.Stream, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(s, got); err != nil {
		t.Fatalf("read %d of %d octets: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%d octets came back changed or out of order", len(want))
	}
}

func oneOctetWrites(t *testing.T, s carrier.Stream) {
	say(t, s, "echo")
	want, _ := io.ReadAll(octets(1000, 1))
	one := make([]byte, 1)
	for _, b := range want {
		one[0] = b
		if n, err := s.Write(one); n != 1 || err != nil {
			t.Fatalf("Write of one octet: %d, %v", n, err)
		}
		one[0] = ^b // the Stream keeps no reference
	}
	expect(t, s, want)
}

func largeWrites(t *testing.T, s carrier.Stream) {
	say(t, s, "echo")
	want, _ := io.ReadAll(octets(1<<20, 2))
	for range 4 {
		wrote := make(chan error, 1)
		go func() {
			n, err := s.Write(want)
			if err == nil && n != len(want) {
				err = io.ErrShortWrite
			}
			wrote <- err
		}()
		expect(t, s, want)
		if err := <-wrote; err != nil {
			t.Fatal(err)
		}
	}
}

// writeBuffers sends more buffers than one writev takes, of all sizes, empty ones
// and a few larger than any pipe among them.
func writeBuffers(t *testing.T, s carrier.Stream) {
	say(t, s, "echo")
	want, _ := io.ReadAll(octets(3<<20, 3))
	var buffers net.Buffers
	for i, rest := 0, want; len(rest) > 0; i++ {
		n := min(i%1500, len(rest))
		if i == 700 {
			n = min(600<<10, len(rest))
		}
		buffers = append(buffers, rest[:n])
		rest = rest[n:]
	}
	before := bytes.Clone(want)
	wrote := make(chan error, 1)
	go func() { wrote <- s.WriteBuffers(buffers) }()
	expect(t, s, before)
	if err := <-wrote; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, before) {
		t.Error("WriteBuffers changed the caller's octets")
	}
	if err := s.WriteBuffers(nil); err != nil {
		t.Errorf("WriteBuffers of nothing: %v", err)
	}
}

func bothWaysAtOnce(t *testing.T, s carrier.Stream) {
	const n = 16 << 20
	say(t, s, "both %d 5", n)
	got, err := both(s, s, n, 4)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sum(n, 5)) {
		t.Error("what the peer sent arrived changed")
	}
	expect(t, s, sum(n, 4))
}

// peerLeaves wants all that the peer sent before it left, then an orderly end.
func peerLeaves(t *testing.T, s carrier.Stream) {
	const n = 1 << 20
	say(t, s, "leave %d 6", n)
	want, _ := io.ReadAll(octets(n, 6))
	expect(t, s, want)
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("after the peer left, Read: %d, %v; want io.EOF", n, err)
	}
}

func closeWakesRead(t *testing.T, s carrier.Stream) {
	say(t, s, "echo")
	say(t, s, "awake")
	expect(t, s, []byte("awake\n"))
	ended := make(chan error)
	go func() {
		_, err := s.Read(make([]byte, 1))
		ended <- err
	}()
	closeAndWait(t, s, "Read", ended)
}

// closeWakesWrite has a peer that lives and takes nothing: a write stands still
// once all buffers on the way are full.
func closeWakesWrite(t *testing.T, s carrier.Stream) {
	say(t, s, "hang")
	ended := make(chan error)
	moved := make(chan struct{}, 1)
	go func() {
		block := make([]byte, 64<<10)
		for {
			if err := s.WriteBuffers(net.Buffers{block[:1000], block[1000:]}); err != nil {
				ended <- err
				return
			}
			select {
			case moved <- struct{}{}:
			default:
			}
		}
	}()
	for still := false; !still; {
		select {
		case <-moved:
		case <-time.After(300 * time.Millisecond):
			still = true
		}
	}
	closeAndWait(t, s, "WriteBuffers", ended)
}

// closeAndWait closes s and wants the blocked call to end with an error that says
// so.
func closeAndWait(t *testing.T, s carrier.Stream, call string, ended <-chan error) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-ended:
		if !carrier.IsClosed(err) {
			t.Errorf("%s, woken by Close: %v; want net.ErrClosed", call, err)
		}
	case <-time.After(within):
		t.Fatalf("Close did not wake %s", call)
	}
	select {
	case err := <-closed:
		if err != nil {
			t.Errorf("Close: %v", err)
		}
	case <-time.After(within):
		t.Fatal("Close does not return")
	}
}

func afterClose(t *testing.T, s carrier.Stream) {
	say(t, s, "echo")
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if _, err := s.Read(make([]byte, 1)); !carrier.IsClosed(err) {
		t.Errorf("Read after Close: %v", err)
	}
	if _, err := s.Write(make([]byte, 1)); !carrier.IsClosed(err) {
		t.Errorf("Write after Close: %v", err)
	}
	if err := s.WriteBuffers(net.Buffers{{1}, {2}}); !carrier.IsClosed(err) {
		t.Errorf("WriteBuffers after Close: %v", err)
	}
}
