package session

import (
	"fmt"
	"io"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
)

// BenchmarkCarry compares a Session over loopback TCP with the bare connection.
func BenchmarkCarry(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 256 << 10} {
		for _, bare := range []bool{true, false} {
			name := fmt.Sprintf("session/%dKiB", size>>10)
			if bare {
				name = fmt.Sprintf("bare/%dKiB", size>>10)
			}
			b.Run(name, func(b *testing.B) {
				near, far := tcpPair(b)
				if !bare {
					client, server := begin(b, near, far, tenMinutes)
					near, far = client.Stream(), server.Stream()
					acks := make(chan struct{})
					go func() { defer close(acks); io.Copy(io.Discard, near) }()
					defer func() { <-acks }()
				}
				defer near.Close()
				defer far.Close()
				b.SetBytes(int64(size))
				b.ReportAllocs()
				carry(b, near, far, size)
			})
		}
	}
}

func carry(b *testing.B, near, far carrier.Stream, size int) {
	wrote := make(chan error, 1)
	block := make([]byte, size)
	into := make([]byte, 512<<10)
	total := b.N * size
	b.ResetTimer()
	go func() {
		for range b.N {
			if _, err := near.Write(block); err != nil {
				wrote <- err
				return
			}
		}
		wrote <- nil
	}()
	for got := 0; got < total; {
		n, err := far.Read(into)
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
	b.StopTimer()
	if err := <-wrote; err != nil {
		b.Fatal(err)
	}
}
