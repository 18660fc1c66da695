package carrier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A line is one end of a pair in memory that has no half-close, as a tty: nothing is
// held between the two, and Close ends both ways.
type line struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func (l line) Read(b []byte) (int, error)  { return l.r.Read(b) }
func (l line) Write(b []byte) (int, error) { return l.w.Write(b) }

func (l line) Close() error {
	l.w.Close()                       // the peer reads io.EOF
	l.r.CloseWithError(net.ErrClosed) // and cannot write; our own Read and Write are woken
	return nil
}

// halves is a line whose ways end one by one.
type halves struct{ line }

func (h halves) CloseWrite() error { return h.w.Close() }

// pair returns both ends of a line.
func pair() (near, far line) {
	r1, w1 := io.Pipe()
	r2, w2 := io.Pipe()
	return line{r1, w2}, line{r2, w1}
}

// A joined is a Join under test: programs at the far ends of a and b.
type joined struct {
	a, b line
	err  chan error
}

// join joins two lines; withHalves says which of them have half-close.
func join(ctx context.Context, withHalves string) joined {
	near := map[bool]func(line) Stream{
		false: func(l line) Stream { return Stream{ReadWriteCloser: l} },
		true:  func(l line) Stream { return Stream{ReadWriteCloser: halves{l}} },
	}
	nearA, farA := pair()
	nearB, farB := pair()
	j := joined{farA, farB, make(chan error, 1)}
	a := near[bytes.ContainsRune([]byte(withHalves), 'a')](nearA)
	b := near[bytes.ContainsRune([]byte(withHalves), 'b')](nearB)
	go func() { j.err <- Join(ctx, a, b) }()
	return j
}

// ends fails the test unless Join has returned the wanted end.
func (j joined) ends(t *testing.T, second bool, want error) {
	t.Helper()
	synctest.Wait()
	var err error
	select {
	case err = <-j.err:
	default:
		t.Fatal("Join has not returned")
	}
	var end *EndError
	if !errors.As(err, &end) || end.Second != second || !errors.Is(err, want) {
		t.Errorf("Join: %v (%+v), want %v of the second: %v", err, end, want, second)
	}
}

// goesOn fails the test if Join has returned.
func (j joined) goesOn(t *testing.T) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-j.err:
		t.Fatalf("Join: %v, too early", err)
	default:
	}
}

func TestJoinBothWaysAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := join(t.Context(), "")
		want := make([]byte, 5<<20)
		rand.NewChaCha8([32]byte{1}).Read(want)
		var got [2][]byte
		var g sync.WaitGroup
		for i, l := range []line{j.a, j.b} {
			g.Go(func() {
				for rest := want; len(rest) > 0; { // in pieces of all sizes
					n := min(1+len(rest)%100000, len(rest))
					l.Write(rest[:n])
					rest = rest[n:]
				}
			})
			g.Go(func() {
				got[i] = make([]byte, len(want))
				io.ReadFull(l, got[i])
			})
		}
		g.Wait()
		if !bytes.Equal(got[0], want) || !bytes.Equal(got[1], want) {
			t.Error("the octets arrived changed")
		}
		j.goesOn(t)
		j.a.Close()
		j.ends(t, false, io.EOF)
		if _, err := j.b.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("b was not closed: %v", err)
		}
	})
}

// TestJoinDeliversLastWords: the one that ends first is heard to its end.
func TestJoinDeliversLastWords(t *testing.T) {
	for _, second := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			j := join(t.Context(), "")
			ending, staying := j.a, j.b
			if second {
				ending, staying = j.b, j.a
			}
			go func() {
				ending.Write(bytes.Repeat([]byte("x"), joinBuffer+100))
				ending.w.Close() // its writing side first: the octets are on their way
			}()
			time.Sleep(time.Hour) // the other takes its time
			j.goesOn(t)
			all, _ := io.ReadAll(staying)
			if len(all) != joinBuffer+100 {
				t.Errorf("%d octets arrived", len(all))
			}
			j.ends(t, second, io.EOF)
		})
	}
}

// TestJoinRefused: one takes no more, and what it says afterwards is still carried.
func TestJoinRefused(t *testing.T) {
	busy := errors.New("it is full")
	synctest.Test(t, func(t *testing.T) {
		j := join(t.Context(), "")
		j.b.r.CloseWithError(busy)
		j.a.Write([]byte("to b"))
		go func() {
			for i := range 5 {
				fmt.Fprintf(j.b, "%d", i)
				time.Sleep(quietTime * 2 / 3)
			}
			j.b.w.Close()
		}()
		if all, _ := io.ReadAll(j.a); string(all) != "01234" {
			t.Errorf("b said %q", all)
		}
		j.ends(t, true, busy)
	})
	synctest.Test(t, func(t *testing.T) { // and if it only stays there, a second is enough
		j := join(t.Context(), "")
		j.b.r.CloseWithError(busy)
		j.a.Write([]byte("to b"))
		j.goesOn(t)
		time.Sleep(2 * quietTime)
		j.ends(t, true, busy)
	})
}

// TestJoinHalfClose passes on that a says no more, and hears b's answer after it.
func TestJoinHalfClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := join(t.Context(), "ab")
		go func() {
			j.a.Write([]byte("question"))
			j.a.w.Close()
		}()
		question, err := io.ReadAll(j.b)
		if string(question) != "question" || err != nil {
			t.Errorf("b heard %q, %v", question, err)
		}
		time.Sleep(time.Hour)
		j.goesOn(t)
		go func() {
			j.b.Write([]byte("answer"))
			j.b.w.Close()
		}()
		if answer, _ := io.ReadAll(j.a); string(answer) != "answer" {
			t.Errorf("a heard %q", answer)
		}
		j.ends(t, true, io.EOF)
	})
}

// TestJoinNoHalfClose: b cannot be told that a says no more. It is heard until it is
// quiet, or ends by itself.
func TestJoinNoHalfClose(t *testing.T) {
	answers := func(t *testing.T, j joined) {
		j.a.w.Close()
		for range 4 {
			time.Sleep(quietTime * 2 / 3)
			go j.b.Write([]byte("x"))
			if _, err := j.a.Read(make([]byte, 1)); err != nil {
				t.Fatalf("b was not heard: %v", err)
			}
		}
		j.goesOn(t)
	}
	synctest.Test(t, func(t *testing.T) {
		j := join(t.Context(), "a")
		answers(t, j)
		time.Sleep(2 * quietTime)
		j.ends(t, false, io.EOF)
	})
	synctest.Test(t, func(t *testing.T) {
		j := join(t.Context(), "a")
		answers(t, j)
		failed := errors.New("exit status 7")
		j.b.w.CloseWithError(failed)
		j.ends(t, true, failed)
	})
}

// TestJoinEndsWithoutHalves: a line without halves that ends is gone as a whole, and
// nothing is waited for.
func TestJoinEndsWithoutHalves(t *testing.T) {
	failed := errors.New("exit status 7")
	synctest.Test(t, func(t *testing.T) {
		j := join(t.Context(), "b")
		j.a.w.CloseWithError(failed)
		j.ends(t, false, failed)
	})
	synctest.Test(t, func(t *testing.T) { // an error is the end, halves or not
		j := join(t.Context(), "ab")
		j.b.w.CloseWithError(failed)
		j.ends(t, true, failed)
	})
}

func TestJoinContext(t *testing.T) {
	cause := errors.New("told so")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		j := join(ctx, "")
		j.a.Write([]byte("nobody reads this at b"))
		j.goesOn(t)
		cancel(cause)
		synctest.Wait()
		if err := <-j.err; err != cause {
			t.Errorf("Join: %v", err)
		}
	})
}

// TestJoinIsBounded: a Stream that is not read takes from the other no more than a
// buffer and what one Write of ours holds.
func TestJoinIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := join(t.Context(), "")
		taken := make(chan int, 1)
		go func() {
			n, _ := j.a.Write(make([]byte, 10*joinBuffer))
			taken <- n
		}()
		j.goesOn(t)
		j.b.Close()
		synctest.Wait()
		if err := <-j.err; !IsClosed(err) {
			t.Errorf("Join: %v", err)
		}
		if n := <-taken; n > joinBuffer {
			t.Errorf("%d octets were taken", n)
		}
	})
}
