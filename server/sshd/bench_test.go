package sshd

import (
	"io"
	"net"
	"strconv"
	"testing"

	"golang.org/x/crypto/ssh"
)

// BenchmarkOpenSSH is one way of a session with the real client over loopback.
func BenchmarkOpenSSH(b *testing.B) {
	const size = 256 << 20
	for _, cipher := range ciphers {
		b.Run("up/"+cipher, func(b *testing.B) {
			u := serve(b).openssh(b, goodKey)
			b.SetBytes(size)
			for b.Loop() {
				if status, out, errs := u.run(io.LimitReader(zeros{}, size), "ssh", "-c", cipher, "127.0.0.1", "sink"); status != 0 || out != strconv.Itoa(size) {
					b.Fatal(out, errs)
				}
			}
		})
		b.Run("down/"+cipher, func(b *testing.B) {
			u := serve(b).openssh(b, goodKey)
			b.SetBytes(size)
			for b.Loop() {
				cmd := u.command("ssh", "-c", cipher, "127.0.0.1", "flood "+strconv.Itoa(size))
				out, err := cmd.StdoutPipe()
				if err != nil {
					b.Fatal(err)
				}
				if err := cmd.Start(); err != nil {
					b.Fatal(err)
				}
				if n, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{out}, make([]byte, 64<<10)); n != size {
					b.Fatal(n, err)
				}
				cmd.Wait()
			}
		})
	}
}

// BenchmarkLogin is a connection with its login and its end, both ends in this process.
func BenchmarkLogin(b *testing.B) {
	h := serve(b)
	for b.Loop() {
		h.login(b).Close()
	}
}

// BenchmarkWriteBuffers is forty packets of an ordinary size at once, and one large one.
func BenchmarkWriteBuffers(b *testing.B) {
	for name, list := range map[string]net.Buffers{"40x1500": repeated(40, 1500), "1x65000": repeated(1, 65000)} {
		b.Run(name, func(b *testing.B) {
			s := &Session{channel: nowhere{}}
			b.ReportAllocs()
			for b.Loop() {
				if err := s.WriteBuffers(list); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func repeated(n, size int) (list net.Buffers) {
	for range n {
		list = append(list, make([]byte, size))
	}
	return list
}

// zeros is a Reader without end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// nowhere takes what is written.
type nowhere struct{ ssh.Channel }

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
