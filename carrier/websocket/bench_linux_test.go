package websocket

import (
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// BenchmarkStream is one way of a connection over loopback TCP, both ends in this
// process: up, where the client masks; down, where nobody does; and TCP alone.
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
		for _, way := range []string{"up", "down", "tcp"} {
			b.Run(c.name+"/"+way, func(b *testing.B) { benchmark(b, c.buffers, c.size, way) })
		}
	}
}

func benchmark(b *testing.B, buffers, size int, way string) {
	var from, to carrier.Stream
	switch way {
	case "up":
		from, to = pair(b)
	case "down":
		to, from = pair(b)
	case "tcp":
		l, err := tcp.Listen(b.Context(), "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		if from, err = tcp.Dial(b.Context(), l.Addr().String(), nil); err != nil {
			b.Fatal(err)
		}
		if to, err = l.Accept(); err != nil {
			b.Fatal(err)
		}
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
	before := cpu()
	var err error
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
	n := <-done
	if n < int64(b.N)*int64(buffers*size) {
		b.Errorf("%d octets arrived", n)
	}
	b.ReportMetric((cpu()-before)/float64(n)*1e9, "cpu-s/GB")
	to.Close()
}

// cpu returns the seconds of processor time that this process has used.
func cpu() float64 {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}
