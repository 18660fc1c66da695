package websocket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"

	library "github.com/coder/websocket"

	"github.com/bodkin-net/bodkin/carrier"
)

// maxResponse is how large the head of the server's answer may be, in octets.
const maxResponse = 64 << 10

// Hop is the Hop over WebSocket, from a Stream that reaches the web server, inside its
// TLS if it is a wss server. host is what the Host field says: a name or an address, with
// ":port" if that is not the scheme's own; path begins with "/" and may have a query. header
// holds further fields, such as Authorization or User-Agent; it may be nil, and is not
// kept. Without a User-Agent there none is sent.
//
// ctx bounds the opening, not the Stream. On failure the Stream below is closed. No
// redirection is followed, no other connection made. Errors: a *carrier.RefusedError of
// layer "proxy" for an answer other than 101; a *carrier.UnreachedError for one which
// says that what is behind the web server does not answer (500, 502, 503, 504); a
// *carrier.HangUpError, or a *carrier.SilenceError, where there is none.
func Hop(host, path string, header http.Header) carrier.Hop {
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if _, said := header["User-Agent"]; !said {
		header.Set("User-Agent", "") // net/http's word for none
	}
	return func(ctx context.Context, s carrier.Stream) (carrier.Stream, error) {
		u := dialogue{host: host}
		target, err := target(host, path)
		if err != nil {
			s.Close()
			return carrier.Stream{}, u.refused(err.Error(), "")
		}
		if !s.Unsafe.Empty() {
			s.Close()
			return carrier.Stream{}, u.refused("the way to "+u.name()+" does not carry all octets, as WebSocket needs", "")
		}
		w := newWire(s, nil)
		ws, answer, err := open(ctx, w, target, header)
		if err != nil {
			err = u.failure(ctx, w, answer, err)
			w.abandon()
			return carrier.Stream{}, err
		}
		if Relayed(answer.Header) {
			w.below = w.below.Relayed()
		}
		return newConn(ws, w), nil
	}
}

// target makes the URL to ask for, of a scheme that has no TLS of its own.
func target(host, path string) (string, error) {
	u, err := url.ParseRequestURI(path)
	if err != nil || u.IsAbs() || u.Host != "" || path[0] != '/' {
		return "", errors.New("the path " + quoted(path) + " of the WebSocket is none")
	}
	u.Scheme, u.Host = "http", host
	if again, err := url.Parse(u.String()); err != nil || again.Host != host || host == "" {
		return "", errors.New("the web server " + quoted(host) + " is neither a name nor an address")
	}
	return u.String(), nil
}

// open makes the upgrade over w (RFC 6455, section 4.1).
func open(ctx context.Context, w *wire, target string, header http.Header) (*library.Conn, *http.Response, error) {
	stop := context.AfterFunc(ctx, func() { w.below.Close() })
	var given atomic.Bool
	transport := &http.Transport{ // of its own: no proxy of the environment's, no HTTP/2
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if given.Swap(true) {
				return nil, errors.New("there is one connection only")
			}
			return w, nil
		},
		DisableCompression:     true,
		DisableKeepAlives:      true, // else it would wait for more, and log what came
		MaxResponseHeaderBytes: maxResponse,
	}
	ws, answer, err := library.Dial(ctx, target, &library.DialOptions{
		HTTPHeader: header,
		HTTPClient: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		CompressionMode: library.CompressionDisabled,
	})
	if !stop() && err == nil {
		ws.CloseNow()
		err = io.ErrUnexpectedEOF // ctx says why
	}
	return ws, answer, err
}

// abandon closes the Stream below, and waits for those who write to it.
func (w *wire) abandon() {
	w.below.Close()
	w.Close()
}
