package front

import (
	"bufio"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
)

// floods makes this test's program a child that opens connections and says nothing, or
// only the word that it was given, until its input ends.
const floods = "FRONT_TEST_FLOODS"

func flood() {
	address, word, _ := strings.Cut(os.Getenv(floods), " ")
	say, _ := hex.DecodeString(word)
	for i := range flooders {
		local := &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}
		d := net.Dialer{LocalAddr: local, KeepAlive: -1}
		c, err := d.Dial("tcp", address)
		if err != nil {
			panic(err)
		}
		c.Write(say)
		defer c.Close()
	}
	fmt.Println("all are there")
	io.Copy(io.Discard, os.Stdin)
}

const flooders = 8000

// underFlood runs f while the flooders are there.
func underFlood(t *testing.T, address, say string, f func()) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), floods+"="+address+" "+hex.EncodeToString([]byte(say)))
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	f()
}

// memory returns what is in use of this process's, in octets: of the heap, and of stacks.
func memory() (heap, stacks int64) {
	runtime.GC()
	runtime.GC() // the first one frees what the second counts
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
}

// TestFlood has thousands of connections that say nothing, or as little as they can, from
// as many addresses: each costs little, and whoever is in order is not held up.
func TestFlood(t *testing.T) {
	const mostEach = 8 << 10
	for _, c := range []struct{ name, say string }{
		{"silent", ""},
		{"one octet", "S"},
		{"half a request", "GET / HTTP/1.1\r\nHost: x\r\nX"},
		{"a length alone", "\x16\x03\x01\x3f\xff\x01\x00\x3f\x00\x03\x03"},
	} {
		t.Run(c.name, func(t *testing.T) {
			patience := time.Minute
			s := start(t, Config{
				Handlers: Handlers{SSH: func(_ context.Context, c *Conn) { io.Copy(c, c) }, Web: Page()},
				Silence:  patience, Patience: patience, Waiting: 2 * flooders,
			})
			heapBefore, stacksBefore := memory()
			underFlood(t, s.address, c.say, func() {
				for s.stats.Accepted.Load() < flooders {
					runtime.Gosched()
				}
				heap, stacks := memory()
				heap, stacks = (heap-heapBefore)/flooders, (stacks-stacksBefore)/flooders
				t.Logf("for each %d octets of the heap and %d of stacks", heap, stacks)
				if heap+stacks > mostEach || heap+stacks < 1000 {
					t.Errorf("for each %d octets of memory, not below %d", heap+stacks, mostEach)
				}
				began := time.Now()
				const honest = 200
				for range honest {
					conn := dial(t, s.address)
					io.WriteString(conn, "SSH-")
					if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
						t.Fatal(err)
					}
					conn.Close()
				}
				mean := time.Since(began) / honest
				t.Logf("%v from dial to answer", mean)
				if mean > 50*time.Millisecond {
					t.Errorf("%v from dial to answer", mean)
				}
			})
			if n := s.stats.GaveWay.Load(); n > 0 {
				t.Errorf("%d gave way", n)
			}
		})
	}
}

// TestFloodOverBound has three times as many as there is room for: the bound holds, and whoever
// speaks at once is served.
func TestFloodOverBound(t *testing.T) {
	s := start(t, Config{
		Handlers: Handlers{SSH: func(_ context.Context, c *Conn) { io.Copy(c, c) }},
		Waiting:  flooders / 3,
	})
	stop, served := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { served <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			conn, err := net.Dial("tcp", s.address)
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "SSH-")
			if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
				t.Error(err)
			}
			conn.Close()
			n++
		}
	}()
	underFlood(t, s.address, "", func() {
		for s.stats.Silent.Load()+int64(s.stats.GaveWay.Load()) < flooders {
			runtime.Gosched()
		}
		if n := s.stats.Waiting.Load(); n > flooders/3+1 { // one in the moment of its coming
			t.Errorf("%d wait", n)
		}
	})
	close(stop)
	n := <-served
	t.Logf("%d were served meanwhile", n)
	if n == 0 {
		t.Error("nobody was served")
	}
}
