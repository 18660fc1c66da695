// Package websocket carries a Stream over WebSocket, as described in RFC 6455, through
// web servers, reverse proxies and whatever lets nothing else pass.
//
//	websocket.go  what both ends have in common
//	hop.go        the client's end: a Hop over a Stream that reaches the web server
//	accept.go     the server's end: an HTTP request becomes a Stream
//	failure.go    what went wrong, in words
//	wire.go       the Stream below, as the library wants it
//	conn.go       the Stream above
//
// The framing is github.com/coder/websocket's. Octets travel in binary messages whose
// boundaries mean nothing, so that whoever is on the way may cut them up or join them.
// There is no compression, and no subprotocol.
//
// WebSocket protects nothing and knows nobody; its masking is there for caches that
// misread (RFC 6455, section 10.3). What has to be secret brings its own TLS, inside.
//
// There is no CloseWrite: a Close frame ends both ways (RFC 6455, section 5.5.1).
package websocket

import (
	"net/http"
	"time"
)

const (
	// maxMessage is what one message of ours carries, in octets: one super-packet, or
	// four records of TLS, in one Write below.
	maxMessage = 64 << 10

	// maxIncoming is what one message of the peer's may carry, in octets. None is ever
	// held as a whole; a proxy that joined all messages to one would be met here.
	maxIncoming = 16 << 20

	// idleTime is how long we write nothing before a Ping goes out: half of what the
	// usual proxy lets a connection be idle (nginx's proxy_read_timeout is 60 s).
	idleTime = 30 * time.Second

	// closeTime is how long Close may take: for a goodbye that the peer does not read,
	// and for an end that the peer does not make.
	closeTime = time.Second
)

// relays are the fields by which those who stand between a client and a server tell of
// themselves (RFC 9110, section 7.6.3; RFC 7239), and Server, which servers of ours do not
// send.
var relays = [...]string{"Via", "Forwarded", "X-Forwarded-For", "X-Real-Ip", "Server"}

// Relayed reports whether a request or an answer with such a header says that it came by
// way of a reverse proxy, or the like. Not all of them say so.
func Relayed(h http.Header) bool {
	for _, name := range relays {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}
