package socks

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// BenchmarkTCP is what a program sends and gets through the proxy, a tunnel in memory
// and the far side's NAT, all in this process, beside a connection without them.
func BenchmarkTCP(b *testing.B) {
	newResolver(b)
	sink := serve(b, world4, func(c *net.TCPConn) { io.Copy(io.Discard, struct{ io.Reader }{c}); c.Close() })
	source := serve(b, world4, func(c *net.TCPConn) {
		for buf := make([]byte, 256<<10); ; {
			if _, err := c.Write(buf); err != nil {
				c.Close()
				return
			}
		}
	})
	p := newBench(b, Config{})
	plain := func(at netip.AddrPort) *net.TCPConn {
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			b.Fatal(err)
		}
		return c.(*net.TCPConn)
	}
	proxied := func(at netip.AddrPort) *net.TCPConn {
		c, code := p.connect5(at.String())
		if code != replyDone {
			b.Fatalf("reply %d", code)
		}
		c.SetDeadline(time.Time{})
		return c
	}
	for _, way := range []struct {
		name string
		dial func(netip.AddrPort) *net.TCPConn
	}{{"plain", plain}, {"proxy", proxied}} {
		for _, streams := range []int{1, 8} {
			for _, out := range []bool{true, false} {
				b.Run(fmt.Sprintf("%s/streams=%d/out=%v", way.name, streams, out), func(b *testing.B) {
					const chunk = 256 << 10
					b.SetBytes(chunk)
					var all sync.WaitGroup
					for i := range streams {
						c := way.dial(map[bool]netip.AddrPort{true: sink, false: source}[out])
						defer refuse(c)
						n := b.N / streams
						if i == 0 {
							n += b.N % streams
						}
						all.Go(func() {
							buf := make([]byte, chunk)
							for range n {
								var err error
								if out {
									_, err = c.Write(buf)
								} else {
									_, err = io.ReadFull(c, buf)
								}
								if err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					all.Wait()
				})
			}
		}
	}
}

// BenchmarkConnect is how long a connection through the proxy takes to be made and
// ended.
func BenchmarkConnect(b *testing.B) {
	newResolver(b)
	p := newBench(b, Config{})
	at := serve(b, world4, func(c *net.TCPConn) { c.Close() })
	for b.Loop() {
		c, code := p.connect5(at.String())
		if code != replyDone {
			b.Fatalf("reply %d", code)
		}
		io.Copy(io.Discard, c)
		c.Close()
	}
}

// BenchmarkUDP is one datagram of 1,200 octets there and back.
func BenchmarkUDP(b *testing.B) {
	newResolver(b)
	p := newBench(b, Config{})
	at := listenUDP(b, world4)
	_, u := p.associate()
	u.SetDeadline(time.Time{})
	d, back := datagram(at.String(), make([]byte, 1200)), make([]byte, 2000)
	for b.Loop() {
		if _, err := u.Write(d); err != nil {
			b.Fatal(err)
		}
		if _, err := u.Read(back); err != nil {
			b.Fatal(err)
		}
	}
}
