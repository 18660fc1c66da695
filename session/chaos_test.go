package session

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// chaos kills connections at random octets, by either end or in the middle, loses what
// is under way, attaches others while those that there are live, and wants every octet
// once and in its place, both ways. It returns how many connections the Session had.
func chaos(t *testing.T, seed uint64, total int) uint64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	between := func(lo, hi int) int { return lo + rng.IntN(hi-lo+1) }
	lost := make(chan struct{}, 1)
	o := Options{Grace: time.Hour, Lost: func(error) {
		select {
		case lost <- struct{}{}:
		default:
		}
	}}
	_, near, far := newWay(between(100, 1<<16), between(1000, 50_000), between(1000, 50_000))
	client, server := begin(t, near, far, o)
	ctx, stop := context.WithCancel(t.Context())

	// One dials whenever there is no connection, and at times when there is one.
	var dialling sync.WaitGroup
	dialling.Go(func() {
		for ctx.Err() == nil {
			sooner := time.NewTimer(time.Duration(between(1, 500)) * time.Millisecond)
			select {
			case <-ctx.Done():
			case <-lost:
			case <-sooner.C:
			}
			sooner.Stop()
			for ctx.Err() == nil {
				w, near, far := newWay(between(100, 1<<16), between(1, 50_000), between(1, 50_000))
				for i := range w.dirs {
					pieces := rand.New(rand.NewPCG(seed, rng.Uint64()))
					w.dirs[i].pieces = func(n int) int { return 1 + pieces.IntN(n) }
				}
				if rng.IntN(4) == 0 {
					w.silence(true)
				}
				trying, cancel := context.WithTimeout(ctx, time.Second)
				here, there := again(trying, client, server, near, far)
				cancel()
				if here == nil && there == nil {
					break
				}
			}
		}
	})

	var streaming sync.WaitGroup
	stream := func(from, to *Session, seed uint64) {
		octets := make([]byte, total)
		key := [32]byte{byte(seed), byte(seed >> 8), 7}
		rand.NewChaCha8(key).Read(octets)
		streaming.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 2))
			for rest := octets; len(rest) > 0; {
				n := min(len(rest), 1+rng.IntN(20_000))
				p := bytes.Clone(rest[:n])
				var err error
				if k := rng.IntN(n); rng.IntN(2) == 0 {
					err = from.WriteBuffers(net.Buffers{p[:k], nil, p[k:]})
				} else {
					_, err = from.Write(p)
				}
				clear(p) // the Session keeps no reference
				if err != nil {
					t.Errorf("writing: %v", err)
					return
				}
				rest = rest[n:]
				if rng.IntN(20) == 0 {
					time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
				}
			}
		})
		streaming.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 3))
			for rest := octets; len(rest) > 0; {
				p := make([]byte, min(len(rest), 1+rng.IntN(30_000)))
				n, err := to.Read(p)
				if err != nil {
					t.Errorf("reading: %v", err)
					return
				}
				if !bytes.Equal(p[:n], rest[:n]) {
					t.Errorf("wrong octets after %d", total-len(rest))
					return
				}
				rest = rest[n:]
				if rng.IntN(20) == 0 {
					time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
				}
			}
		})
	}
	stream(client, server, seed+1)
	stream(server, client, seed+2)
	streaming.Wait()
	stop()
	dialling.Wait()

	// And nothing comes behind them.
	attached(t, client, server)
	go client.Close()
	if n, err := io.Copy(io.Discard, struct{ io.Reader }{server}); n != 0 || err != nil {
		t.Errorf("then %d octets more, and %v", n, err)
	}
	server.Close()
	client.Close()
	return client.Stats().Streams
}

func TestChaos(t *testing.T) {
	ways := uint64(0)
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { ways += chaos(t, seed, 500_000) })
		})
	}
	t.Logf("%d connections", ways)
	if ways < 200 {
		t.Errorf("%d connections were used: this was no chaos", ways)
	}
}

func FuzzChaos(f *testing.F) {
	f.Add(uint64(1))
	f.Add(uint64(20))
	f.Fuzz(func(t *testing.T, seed uint64) {
		synctest.Test(t, func(t *testing.T) { chaos(t, seed, 100_000) })
	})
}
