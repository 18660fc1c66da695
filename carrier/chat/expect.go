package chat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// A wait is one expect that is waited for. What came before it does not count.
type wait struct {
	what  string // for people
	want  []byte // it, or
	re    *search
	came  int    // octets
	tail  []byte // the last of them, bit 7 cleared: a window at least, if so many came
	began time.Time
}

// await waits until what w says has come, octet by octet: what follows stays in r.rest.
// It fails with an *AbortError, *carrier.SilenceError or *carrier.HangUpError.
func (r *run) await(ctx context.Context, w *wait) error {
	r.log("expect (%s)", w.what)
	if len(w.want) == 0 && (w.re == nil || w.re.found) {
		r.log("got it")
		return nil
	}
	w.began = time.Now()
	for {
		for len(r.rest) > 0 {
			octet := r.rest[0] & 0x7f
			r.rest = r.rest[1:]
			got, err := r.hear(w, octet)
			switch {
			case err != nil:
				r.endLine()
				r.log(" -- failed")
				return err
			case got:
				r.endLine()
				r.log(" -- got it")
				return nil
			}
		}
		octets, err := r.in.next(ctx, r.timeout-time.Since(w.began))
		r.rest = octets
		if err == nil {
			continue
		}
		r.endLine()
		switch {
		case errors.Is(err, errSilence):
			r.log("alarm")
			return &carrier.SilenceError{Layer: "chat", Reason: fmt.Sprintf("waiting for %s: it did not come in %v; %s", quoted(w.what), r.timeout, r.whatCame(w))}
		case ctx.Err() != nil:
			return err
		}
		how := "the peer closed"
		if !errors.Is(err, io.EOF) {
			how = carrier.Printable(err.Error())
		}
		return &carrier.HangUpError{Layer: "chat", Reason: fmt.Sprintf("waiting for %s: %s; %s", quoted(w.what), how, r.whatCame(w)), Err: err}
	}
}

// whatCame tells of what came instead of the expected.
func (r *run) whatCame(w *wait) string {
	if w.came == 0 {
		return "nothing came"
	}
	return fmt.Sprintf("%d octets came, the last %s", w.came, quoted(r.masked(visible(string(w.tail)))))
}

// hear takes one octet, and reports whether the expected ends with it. The expected
// comes before an ABORT, as in chat(8).
func (r *run) hear(w *wait, octet byte) (got bool, err error) {
	r.show(octet)
	r.logOctet(octet)
	w.came++
	if len(w.tail) == 2*window {
		w.tail = w.tail[:copy(w.tail, w.tail[window:])]
	}
	w.tail = append(w.tail, octet)
	r.report(w.tail, octet)
	switch {
	case w.re != nil:
		got = w.re.put(octet)
	default:
		got = bytes.HasSuffix(w.tail, w.want)
	}
	if got {
		return true, nil
	}
	for i, s := range r.aborts {
		if bytes.HasSuffix(w.tail, []byte(s)) {
			return false, &AbortError{i, visible(s)}
		}
	}
	return false, nil
}

// show shows an octet to those who watch.
func (r *run) show(octet byte) {
	if r.echo {
		r.watchers[0].put(octet)
	}
	r.watchers[1].put(octet)
}

// A watcher shows octets on a terminal.
type watcher struct {
	w      io.Writer // or nil
	inLine bool      // the line is not at its beginning
}

func (s *watcher) put(octet byte) {
	switch {
	case s.w == nil, octet == '\r':
	case octet == '\n':
		s.inLine = false
		io.WriteString(s.w, "\n")
	default:
		s.inLine = true
		io.WriteString(s.w, visible(string(rune(octet))))
	}
}

// endLine ends a line that was begun.
func (s *watcher) endLine() {
	if s.inLine {
		s.put('\n')
	}
}

// report looks for strings of REPORT, each once, and gathers the line that follows.
func (r *run) report(tail []byte, octet byte) {
	if r.gathered != nil {
		switch {
		case octet < 0x20, octet == 0x7f:
			r.endReport()
		case len(r.gathered) < reportSize:
			r.gathered = append(r.gathered, octet)
		}
		return
	}
	for i, s := range r.reports {
		if !r.reported[i] && bytes.HasSuffix(tail, []byte(s)) {
			r.reported[i] = true
			r.gathered = append([]byte(time.Now().Format("Jan _2 15:04:05 ")), s...)
			return
		}
	}
}

// endReport writes the line that was gathered, if there is one.
func (r *run) endReport() {
	if r.gathered != nil && r.o.Report != nil {
		fmt.Fprintf(r.o.Report, "chat:  %s\n", visible(string(r.gathered)))
	}
	r.gathered = nil
}
