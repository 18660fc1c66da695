package server

import (
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// refusalEvery is how often the same is said of the same client.
	refusalEvery = time.Minute

	// refusalsKept is how many clients and reasons are told apart: beyond them, who
	// comes from ever new addresses is only counted.
	refusalsKept = 4096

	// plainMost is the most of a text from outside that is logged, in octets.
	plainMost = 200
)

// plain makes a text from outside fit for a log: one line, printable, not long.
func plain(text string) string {
	if len(text) > plainMost {
		text = text[:plainMost]
	}
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// said is something that was logged of a client.
type said struct{ client, reason string }

// refusals are counted always, and logged once for each client and reason in a minute.
type refusals struct {
	mu      sync.Mutex
	said    map[said]time.Time // when
	omitted uint64             // not logged since the last that was
	swept   time.Time
	counts  map[[2]string]uint64 // by reason, and by way: "" inside a session
}

// due reports whether a refusal is to be logged, and how many were not since the last.
func (r *refusals) due(client, reason string, now time.Time) (omitted uint64, due bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.swept) > refusalEvery || len(r.said) >= refusalsKept && now.Sub(r.swept) > time.Second {
		for k, at := range r.said {
			if now.Sub(at) >= refusalEvery {
				delete(r.said, k)
			}
		}
		r.swept = now
	}
	k := said{client, reason}
	at, known := r.said[k]
	if known && now.Sub(at) < refusalEvery || !known && len(r.said) >= refusalsKept {
		r.omitted++
		return 0, false
	}
	r.said[k] = now
	omitted, r.omitted = r.omitted, 0
	return omitted, true
}

// count counts what became of a handshake.
func (r *refusals) count(by, result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[[2]string]uint64)
	}
	r.counts[[2]string{by, result}]++
}

// Results of a handshake, for Handshake. They are the values of a metric's label, so
// there are few.
const (
	ResultWelcome   = "welcome"   // the client has proved a key that is taken
	ResultStranger  = "stranger"  // a key that nobody knows
	ResultExpired   = "expired"   // a key that was taken once
	ResultElsewhere = "elsewhere" // a key that is not taken from this address
	ResultFailed    = "failed"    // no handshake came about
	ResultFull      = "full"      // no session was left
)

// Handshake counts what became of a client that came by a way from an address. Of any
// other result than ResultWelcome the error is logged, once for each address and result in
// a minute. key may be empty.
func (s *Server) Handshake(by, from, key, result string, err error) {
	s.refusals.count(by, result)
	if result == ResultWelcome {
		return
	}
	if omitted, due := s.refusals.due(hostOf(from), result, s.now()); due {
		s.log.Warn("refused", "by", plain(by), "from", plain(from), "key", plain(key), "result", result, "reason", plain(err.Error()), "omitted", omitted)
	}
}

// Results of an attempt to continue a session, for Resume. They are the values of a
// metric's label too.
const (
	ResumeDone    = "resumed"
	ResumeUnknown = "unknown" // there is none of that name, of that client
	ResumeForged  = "forged"  // the client did not prove that it had begun it
	ResumeFailed  = "failed"  // the connection ended, or said something else
)

// Resume counts what became of a client's wish to continue a session, on a connection
// that it came by. Of any other result than ResumeDone the error is logged, once for each
// address and result in a minute. key is the client's.
func (s *Server) Resume(c *Connection, key, result string, err error) {
	s.mu.Lock()
	s.resumes[[2]string{c.By, result}]++
	s.mu.Unlock()
	if result == ResumeDone {
		return
	}
	if omitted, due := s.refusals.due(hostOf(c.From), result, s.now()); due {
		s.log.Warn("not continued", "by", plain(c.By), "from", plain(c.From), "key", plain(key), "result", result, "reason", plain(err.Error()), "omitted", omitted)
	}
}

// hostOf is where a client comes from without its port, which is another one each time.
func hostOf(from string) string {
	if i := strings.LastIndexByte(from, ':'); i > 0 {
		return from[:i]
	}
	return from
}

// Refused logs that something of the session was turned away inside the tunnel: once
// for each reason in a minute. It is counted by Tunnel.Counts. It may be called by many
// goroutines, and does not wait.
func (s *Session) Refused(reason, text string) {
	if omitted, due := s.server.refusals.due(s.Client.Key, reason, s.server.now()); due {
		s.server.log.Warn("refused inside", append(s.attributes(), slog.String("reason", plain(reason)), slog.String("what", plain(text)), slog.Uint64("omitted", omitted))...)
	}
}

// ending is what the log says of a session that has ended.
func ending(c Counts, after time.Duration, err error) []any {
	why := "the client ended it"
	var ended *EndedError
	switch {
	case errors.As(err, &ended):
		why = ended.Why.String() + ": " + ended.Text
	case err != nil && !errors.Is(err, io.EOF):
		why = err.Error()
	}
	attributes := []any{
		slog.String("why", plain(why)), slog.Duration("after", after.Round(time.Millisecond)),
		slog.Uint64("packets_in", c.PacketsIn), slog.Uint64("packets_out", c.PacketsOut),
		slog.Uint64("octets_in", c.OctetsIn), slog.Uint64("octets_out", c.OctetsOut),
	}
	for _, reason := range sortedKeys(c.Refused) {
		if n := c.Refused[reason]; n > 0 {
			attributes = append(attributes, slog.Uint64("refused_"+reason, n))
		}
	}
	return attributes
}
