// Package carriertest is the suite that every carrier passes.
//
// A carrier's test opens a connection whose far side runs Serve, in a goroutine or
// in another process, and hands the near side's Stream to Test.
package carriertest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/bodkin-net/bodkin/carrier"
)

// hangTime bounds a peer that hangs, and shows the runtime that it has something
// to wait for.
const hangTime = time.Hour

// Serve is the far side of one connection of the suite. It reads one line that
// says what to do, does it, and returns; the caller closes the Stream.
//
//	echo          send back what comes, until it ends
//	both N SEED   send N octets made from SEED, and read N at the same time; then
//	              send the SHA-256 of what was read
//	leave N SEED  send N octets made from SEED, and end
//	hang          read and write nothing more until ctx ends, an hour at most
//
// To each but echo it answers nothing first.
func Serve(ctx context.Context, s carrier.Stream) error {
	r := bufio.NewReaderSize(s, 4096)
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	var verb string
	var n int64
	var seed uint64
	fmt.Sscan(line, &verb, &n, &seed)
	switch verb {
	case "echo":
		_, err = io.Copy(struct{ io.Writer }{s}, r)
	case "both":
		var sum []byte
		sum, err = both(s, r, n, seed)
		if err == nil {
			_, err = s.Write(sum)
		}
	case "leave":
		_, err = io.Copy(struct{ io.Writer }{s}, octets(n, seed))
	case "hang":
		select {
		case <-ctx.Done():
		case <-time.After(hangTime):
		}
	default:
		err = fmt.Errorf("carriertest: no verb %q", verb)
	}
	return err
}

// both sends n octets made from seed to w, while it reads n from r, and returns
// the SHA-256 of those.
func both(w io.Writer, r io.Reader, n int64, seed uint64) ([]byte, error) {
	hash := sha256.New()
	var g errgroup.Group
	g.Go(func() error {
		_, err := io.Copy(struct{ io.Writer }{w}, octets(n, seed))
		return err
	})
	g.Go(func() error {
		_, err := io.CopyN(hash, r, n)
		return err
	})
	err := g.Wait()
	return hash.Sum(nil), err
}

// octets returns n octets made from seed.
func octets(n int64, seed uint64) io.Reader {
	var key [32]byte
	for i := range key {
		key[i] = byte(seed >> (i % 8 * 8))
	}
	return io.LimitReader(rand.NewChaCha8(key), n)
}

// sum returns the SHA-256 of the n octets made from seed.
func sum(n int64, seed uint64) []byte {
	hash := sha256.New()
	io.Copy(hash, octets(n, seed))
	return hash.Sum(nil)
}
