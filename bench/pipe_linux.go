package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// pipeRate is what a login carries at least on a machine of today, in octets per
// second; a transfer lasts about as long as the others.
const pipeRate = 300e6

// pipe measures what a bare login carries: this process at one end, cat or head at
// the other. The clock starts when the login is done.
func (b *bench) pipe(ctx context.Context) (s sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(b.config.seconds)*10*time.Second+openTimeout)
	defer cancel()
	n := int64(b.config.seconds) * pipeRate
	for _, t := range []struct {
		remote    string
		transfer  func(in io.WriteCloser, out io.Reader) error
		rate, cpu *float64
	}{
		{"echo; cat >/dev/null; echo", func(in io.WriteCloser, out io.Reader) error {
			if err := send(in, n); err != nil {
				return err
			}
			return receive(out, 1) // the far cat has read all
		}, &s.Up1, &s.CPUUp},
		{fmt.Sprintf("echo; head -c %d /dev/zero", n), func(_ io.WriteCloser, out io.Reader) error {
			return receive(out, n)
		}, &s.Down1, &s.CPUDown},
	} {
		took, cpu, err := b.login(ctx, t.remote, t.transfer, &s)
		if err != nil {
			return s, fmt.Errorf("ssh gw '%s': %w", t.remote, err)
		}
		*t.rate = float64(n) * 8 / took.Seconds() / 1e6
		*t.cpu = cpu.Seconds() / (float64(n) / 1e9)
	}
	return s, nil
}

// login runs a command over ssh, and times a transfer that begins after its first
// octet.
func (b *bench) login(ctx context.Context, remote string, transfer func(io.WriteCloser, io.Reader) error, s *sample) (took, cpu time.Duration, err error) {
	began := time.Now()
	c := b.lab.Laptop.Command(ctx, "ssh", "-T", "-e", "none", "-c", cipher, "gw", remote).As("me")
	var words bytes.Buffer
	c.Stderr = &words
	in, err := c.StdinPipe()
	if err != nil {
		return 0, 0, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	if err := c.Start(); err != nil {
		return 0, 0, err
	}
	defer c.Wait()
	defer in.Close()
	if err := receive(out, 1); err != nil {
		return 0, 0, errors.Join(err, errors.New(words.String()))
	}
	s.Start = ms(time.Since(began))
	before, err := b.meter.read()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := transfer(in, out); err != nil {
		c.Process.Kill()
		return 0, 0, err
	}
	took = time.Since(start)
	after, err := b.meter.read()
	return took, after - before, err
}

// chunk is what is read and written at once: what a pipe holds (pipe(7)).
const chunk = 64 << 10

// send writes n octets and closes.
func send(w io.WriteCloser, n int64) error {
	buf := make([]byte, chunk)
	for n > 0 {
		k, err := w.Write(buf[:min(n, chunk)])
		if err != nil {
			return err
		}
		n -= int64(k)
	}
	return w.Close()
}

// receive reads n octets.
func receive(r io.Reader, n int64) error {
	buf := make([]byte, chunk)
	for n > 0 {
		k, err := r.Read(buf[:min(n, chunk)])
		n -= int64(k)
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}
