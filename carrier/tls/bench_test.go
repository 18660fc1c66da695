package tls

import (
	"io"
	"net"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// BenchmarkStream is one way of a connection over loopback TCP, both ends in this
// process: with TLS and, to compare, without.
func BenchmarkStream(b *testing.B) {
	for _, c := range []struct {
		name    string
		buffers int
		size    int
	}{
		{"64KiB", 1, 64 << 10},
		{"40x1500", 40, 1500},
		{"1500", 1, 1500},
	} {
		for _, encrypted := range []bool{true, false} {
			name := c.name + "/plain"
			if encrypted {
				name = c.name + "/tls"
			}
			b.Run(name, func(b *testing.B) { benchmark(b, c.buffers, c.size, encrypted) })
		}
	}
}

func benchmark(b *testing.B, buffers, size int, encrypted bool) {
	l, err := tcp.Listen(b.Context(), "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	from, err := tcp.Dial(b.Context(), l.Addr().String(), nil)
	if err != nil {
		b.Fatal(err)
	}
	to, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	if encrypted {
		from, to = pair(b, from, to)
	}
	done := make(chan int64)
	go func() {
		n, _ := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, 512<<10))
		done <- n
	}()
	list := make(net.Buffers, buffers)
	scratch := make(net.Buffers, buffers)
	for i := range list {
		list[i] = make([]byte, size)
	}
	b.SetBytes(int64(buffers * size))
	b.ReportAllocs()
	for b.Loop() {
		if buffers == 1 {
			_, err = from.Write(list[0])
		} else {
			copy(scratch, list)
			err = from.WriteBuffers(scratch)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	from.Close()
	if n := <-done; n < int64(b.N)*int64(buffers*size) {
		b.Errorf("%d octets arrived", n)
	}
	to.Close()
}

// BenchmarkOpen is a whole handshake, both ends.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		x, y := net.Pipe()
		client, server := pair(b, carrier.Stream{ReadWriteCloser: x}, carrier.Stream{ReadWriteCloser: y})
		x.Close()
		y.Close()
		client.Close()
		server.Close()
	}
}
