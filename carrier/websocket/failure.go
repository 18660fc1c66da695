package websocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
)

// maxShown is how much of one text of the server's an error may hold, in octets.
const maxShown = 200

// printable returns a text of the peer's fit for an error: one line, and not long.
func printable(text string) string {
	if len(text) > maxShown {
		text = text[:maxShown] + "..."
	}
	return carrier.Printable(text)
}

func quoted(text string) string { return strconv.Quote(printable(text)) }

// A dialogue is the opening with one web server.
type dialogue struct{ host string }

func (d dialogue) name() string { return printable(d.host) }

func (d dialogue) refused(reason, hint string) error {
	return &carrier.RefusedError{Layer: "proxy", Reason: reason, Hint: hint}
}

// failure says in words why the opening failed: by ctx, by the server's answer, or by
// the end of the way.
func (d dialogue) failure(ctx context.Context, w *wire, answer *http.Response, err error) error {
	if ctx.Err() != nil {
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("websocket: waiting for %s: %w", d.name(), context.Cause(ctx))
		}
		return &carrier.SilenceError{
			Layer:  "proxy",
			Reason: fmt.Sprintf("the web server %s has not answered in time (%s)", d.name(), came(w)),
			Hint:   "is it a web server? Encrypted ones are wss://, others ws://",
		}
	}
	if answer != nil {
		return d.turnedAway(answer, err)
	}
	if end := w.ended(); end != nil {
		if end == errCut {
			end = io.ErrUnexpectedEOF
		}
		return &carrier.HangUpError{
			Layer:  "proxy",
			Reason: fmt.Sprintf("the web server %s closed the connection in place of an answer (%s)", d.name(), came(w)),
			Hint:   "is it a web server? Encrypted ones are wss://, others ws://",
			Err:    end,
		}
	}
	return &carrier.RefusedError{
		Layer:  "proxy",
		Reason: fmt.Sprintf("%s answered with what no web server says (%s)", d.name(), came(w)),
		Hint:   "is it a web server? Encrypted ones are wss://, others ws://",
		Err:    err,
	}
}

// came says what there was of an answer.
func came(w *wire) string {
	began := w.began()
	if began == "" {
		return "nothing came"
	}
	return "it began " + quoted(began)
}

// turnedAway returns the error for an answer that opens no WebSocket.
func (d dialogue) turnedAway(r *http.Response, err error) error {
	line := printable(r.Status)
	if words := firstWords(r); words != "" {
		line += ": " + strconv.Quote(words)
	}
	reason := fmt.Sprintf("the web server %s does not open a WebSocket: %s", d.name(), line)
	switch r.StatusCode {
	case http.StatusSwitchingProtocols:
		return &carrier.RefusedError{
			Layer:  "proxy",
			Reason: fmt.Sprintf("the web server %s agrees to a WebSocket, and speaks none", d.name()),
			Hint:   "is there a proxy on the way that does not know WebSocket?",
			Err:    err,
		}
	case 500, 502, 503, 504:
		return &carrier.UnreachedError{Layer: "proxy", Reason: reason, Hint: "does bodkin run behind it?"}
	case 300, 301, 302, 303, 307, 308:
		if to := r.Header.Get("Location"); to != "" {
			reason += ", and points to " + quoted(to)
		}
		return d.refused(reason, "bodkin follows no redirection; name the place itself, if it is that")
	case 401, 407:
		return d.refused(reason, "it wants a password")
	case 404:
		return d.refused(reason, "check the path of the URL")
	case 200, 400, 405, 426:
		return d.refused(reason, "check the path of the URL; or a proxy on the way takes the Upgrade field away")
	}
	return d.refused(reason, "")
}

// firstWords returns the beginning of the answer's text, if it is one to read.
func firstWords(r *http.Response) string {
	kind := r.Header.Get("Content-Type")
	if r.Body == nil || kind != "" && !strings.HasPrefix(kind, "text/plain") {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(r.Body, maxShown+1))
	return printable(string(text))
}

// webConn is the connection of a request. Closing it again is no error.
type webConn struct{ net.Conn }

func (c webConn) Close() error {
	if err := c.Conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
