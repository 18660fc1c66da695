package usernat

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// discard takes all that comes and says nothing.
func discard(c *net.TCPConn) {
	buf := make([]byte, 256<<10)
	for {
		if _, err := c.Read(buf); err != nil {
			c.Close()
			return
		}
	}
}

// pour sends without end.
func pour(c *net.TCPConn) {
	buf := make([]byte, 256<<10)
	for {
		if _, err := c.Write(buf); err != nil {
			c.Close()
			return
		}
	}
}

// cpu is what this process has used, in seconds.
func cpu() float64 {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

// resident is this process's memory in MiB.
func resident() (mib float64) {
	b, _ := os.ReadFile("/proc/self/statm")
	var total, pages int
	fmt.Sscan(strings.TrimSpace(string(b)), &total, &pages)
	return float64(pages*os.Getpagesize()) / (1 << 20)
}

// BenchmarkTCP carries a stream through a kernel TUN, the NAT and a veth, with
// both ends in this process; cpu-s/GB counts all of them. One operation is a MiB.
func BenchmarkTCP(b *testing.B) {
	for _, mtu := range []int{1500, 65535} {
		for _, streams := range []int{1, 8} {
			for _, dir := range []string{"out", "in"} {
				b.Run(fmt.Sprintf("mtu=%d/streams=%d/%s", mtu, streams, dir), func(b *testing.B) {
					n := newBench(b, Config{MTU: mtu})
					handle := discard
					if dir == "in" {
						handle = pour
					}
					addr := serve(b, worldSpace, "198.51.100.10:0", handle)
					conns := make([]net.Conn, streams)
					for i := range conns {
						conns[i] = n.mustDial("tcp", addr)
						conns[i].SetDeadline(time.Time{})
					}
					b.SetBytes(1 << 20)
					b.ReportAllocs()
					b.ResetTimer()
					used := cpu()
					var wg sync.WaitGroup
					for _, c := range conns {
						wg.Go(func() {
							share := int64(b.N) << 20 / int64(streams)
							buf := make([]byte, 256<<10)
							for share > 0 {
								piece := buf[:min(int64(len(buf)), share)]
								k, err := 0, error(nil)
								if dir == "in" {
									k, err = c.Read(piece)
								} else {
									k, err = c.Write(piece)
								}
								if err != nil {
									b.Error(err)
									return
								}
								share -= int64(k)
							}
						})
					}
					wg.Wait()
					b.StopTimer()
					b.ReportMetric((cpu()-used)/(float64(b.N)*(1<<20)/1e9), "cpu-s/GB")
					b.ReportMetric(resident(), "MiB-resident")
					for _, c := range conns {
						c.(*net.TCPConn).SetLinger(0)
						c.Close()
					}
				})
			}
		}
	}
}

// BenchmarkRTT is one small message there and back.
func BenchmarkRTT(b *testing.B) {
	n := newBench(b, Config{})
	for _, c := range []struct {
		name string
		conn net.Conn
	}{
		{"tcp", n.mustDial("tcp", serve(b, worldSpace, "198.51.100.10:0", func(c *net.TCPConn) {
			buf := make([]byte, 64)
			for {
				k, err := c.Read(buf)
				if err != nil {
					c.Close()
					return
				}
				c.Write(buf[:k])
			}
		}))},
		{"udp", n.mustDial("udp", listenUDP(b, worldSpace, "198.51.100.10:0", echoUDP))},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.conn.SetDeadline(time.Time{})
			b.ReportAllocs()
			buf := make([]byte, 64)
			for b.Loop() {
				c.conn.Write(buf[:32])
				if _, err := c.conn.Read(buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConnect opens, uses and closes a connection.
func BenchmarkConnect(b *testing.B) {
	n := newBench(b, Config{})
	addr := serve(b, worldSpace, "198.51.100.10:0", echo)
	b.ReportAllocs()
	for b.Loop() {
		c, err := n.dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		c.Write([]byte("x"))
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
		c.Close()
	}
	runtime.KeepAlive(n)
}
