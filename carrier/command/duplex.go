package command

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// pipeSize is what a pipe that carries a tunnel may hold, in octets. Measured
// through ssh with aes128-gcm on loopback, both ways: the kernel's 64 KiB give
// 4.5 Gb/s, 256 KiB give 5.9; 1 MiB gives 6.3, which is within the noise, and a
// longer queue in front of a ping. A socketpair instead of two pipes is as fast,
// and 10 to 30 microseconds slower from write to answer (pipes: 112).
const pipeSize = 256 << 10

// duplex is two files that make one way there and back; they may be one and the same.
type duplex struct {
	in, out *os.File // read, written
	source  *source  // of in
	vector  vector   // of out
	closed  atomic.Bool
}

// newDuplex takes over both files.
func newDuplex(in, out *os.File) (*duplex, error) {
	s, err1 := newSource(in)
	v, err2 := newVector(out)
	return &duplex{in: in, out: out, source: s, vector: v}, errors.Join(err1, err2)
}

// pair returns our duplex and the two files that are a program's standard input
// and output at its other end.
func pair() (near *duplex, stdin, stdout *os.File, err error) {
	stdin, ours, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	from, stdout, err := os.Pipe()
	if err != nil {
		stdin.Close()
		ours.Close()
		return nil, nil, nil, err
	}
	widen(ours)
	widen(from)
	near, err = newDuplex(from, ours)
	if err != nil {
		for _, f := range []*os.File{stdin, ours, from, stdout} {
			f.Close()
		}
	}
	return near, stdin, stdout, err
}

func (d *duplex) Read(b []byte) (int, error) {
	n, err := d.source.Read(b)
	return n, d.plain(err)
}

func (d *duplex) Write(b []byte) (int, error) {
	n, err := d.out.Write(b)
	return n, d.plain(err)
}

// WriteBuffers writes all buffers, gathered by the system where it can.
func (d *duplex) WriteBuffers(buffers net.Buffers) error {
	return d.plain(d.vector.write(buffers))
}

// close closes both files, which wakes their readers and writers.
func (d *duplex) close() {
	d.closed.Store(true)
	d.out.Close()
	d.in.Close()
}

// wake ends Read and Write now and from here on, with net.ErrClosed; the files, which
// must not block, stay open.
func (d *duplex) wake() {
	d.closed.Store(true)
	d.in.SetReadDeadline(time.Now())
	d.stopWrites()
}

// stopWrites makes Write fail now and from here on.
func (d *duplex) stopWrites() { d.out.SetWriteDeadline(time.Now()) }

// plain takes the operation and the made-up path off an error of an *os.File, and
// turns the error for a closed one into that of a Stream.
func (d *duplex) plain(err error) error {
	if err != nil && d.closed.Load() {
		return net.ErrClosed
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		return call.Err
	}
	return err
}

// control calls f with the descriptor of file.
func control(file *os.File, f func(fd int)) {
	raw, err := file.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}
