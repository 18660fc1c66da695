package command

import (
	"os"

	"github.com/bodkin-net/bodkin/carrier"
)

// Give gives what a Stream of Stdio's reads and writes to another process, which makes
// a Stream of it by Take: pass hands over the two files, which stay this package's. Once
// pass has succeeded the Stream is closed here, and its connection goes on there; after an error
// of pass the Stream is as before. ok is false, and nothing is done, for any other
// Stream.
func Give(s carrier.Stream, pass func(in, out *os.File) error) (ok bool, err error) {
	own, ok := s.ReadWriteCloser.(*stdio)
	if !ok {
		return false, nil
	}
	if err := pass(own.in, own.out); err != nil {
		return true, err
	}
	own.closing.Do(func() {
		own.duplex.close()
		for _, f := range own.flagged {
			f.forget() // they are as the other process wants them
		}
	})
	return true, nil
}

// Take makes a Stream of two open files that another process gave by Give. It owns them.
// They may be one and the same socket, each with a descriptor of its own.
func Take(in, out *os.File) (carrier.Stream, error) {
	d, err := newDuplex(in, out)
	if err != nil {
		in.Close()
		out.Close()
		return carrier.Stream{}, err
	}
	return carrier.Stream{ReadWriteCloser: &stdio{duplex: d}}, nil
}
