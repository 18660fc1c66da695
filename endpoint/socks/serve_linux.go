package socks

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// acceptPause is for how long no connection is accepted after this machine had no
// descriptor or memory for one.
const acceptPause = 100 * time.Millisecond

// refuse resets a connection.
func refuse(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}

// accept accepts connections until Close and has serve carry each one, which closes
// it.
func (p *Proxy) accept(l *net.TCPListener, serve func(*net.TCPConn)) {
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.count.limit.Add(1)
			select {
			case <-time.After(acceptPause):
			case <-p.ctx.Done():
				return
			}
			continue
		}
		select {
		case p.places <- struct{}{}:
		default:
			p.count.limit.Add(1)
			refuse(c)
			continue
		}
		if !p.keep(c) || !p.start(func() {
			defer func() { <-p.places }()
			defer p.release(c)
			serve(c)
		}) {
			refuse(c)
			<-p.places
		}
	}
}

// serve carries one connection of a program: its first octet says what it speaks.
func (p *Proxy) serve(c *net.TCPConn) {
	c.SetDeadline(time.Now().Add(p.c.Limits.Handshake))
	var first [1]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		if err != io.EOF { // nothing asked, nothing wrong
			p.count.malformed.Add(1)
		}
		c.Close()
		return
	}
	switch {
	case first[0] == version5:
		r, err := readRequest5(c, p.c.User, p.c.Password)
		p.serveRequest(c, r, err)
	case first[0] == version4 && p.c.User == "":
		r, err := readRequest4(c)
		p.serveRequest(c, r, err)
	case first[0] == version4: // it has no password
		p.count.policy.Add(1)
		c.Write(appendReply4(nil, rejected4))
		c.Close()
	case 'A' <= first[0] && first[0] <= 'Z': // a method (RFC 9110, section 9.1)
		p.web.serve(c, first[0])
	default:
		p.count.malformed.Add(1)
		refuse(c)
	}
}

// serveRequest does what a program of SOCKS asks for; err is why it could not be read.
func (p *Proxy) serveRequest(c *net.TCPConn, r request, err error) {
	if r.version == version4 {
		p.count.v4.Add(1)
	} else {
		p.count.v5.Add(1)
	}
	var wrong *protocolError
	switch {
	case err == nil:
	case errors.Is(err, errPassword):
		p.count.policy.Add(1)
		c.Close()
		return
	case errors.As(err, &wrong):
		c.Write(wrong.reply)
		fallthrough
	default:
		p.count.malformed.Add(1)
		c.Close()
		return
	}
	switch {
	case r.command == commandConnect:
		p.serveConnect(c, &r)
	case r.command == commandAssociate && r.version == version5:
		p.serveAssociate(c, &r)
	default: // BIND: nobody gets in
		c.Write(r.appendReply(nil, replyCommand, netip.AddrPort{}))
		c.Close()
	}
}

// serveConnect is CONNECT of SOCKS.
func (p *Proxy) serveConnect(c *net.TCPConn, r *request) {
	d, err := p.dialFor(c, r.to)
	if err != nil {
		p.sayReply(c, r, replyOf(err), netip.AddrPort{})
		c.Close()
		return
	}
	if p.sayReply(c, r, replyDone, d.local()) != nil {
		d.reset()
		c.Close()
		return
	}
	d.splice(c, nil)
}

// sayReply writes a reply to r.
func (p *Proxy) sayReply(c *net.TCPConn, r *request, code byte, bound netip.AddrPort) error {
	c.SetDeadline(time.Now().Add(p.c.Limits.Handshake))
	_, err := c.Write(r.appendReply(nil, code, bound))
	return err
}

// serveForward carries one connection to the destination of f. What cannot be
// reached is reset: a RST is as near as a host comes to a refusal that it hears of too
// late.
func (p *Proxy) serveForward(c *net.TCPConn, f Forward) {
	p.count.forwarded.Add(1)
	host, port, err := splitHostPort(f.To)
	var a address
	if err == nil {
		a, err = hostAddress(host, port)
	}
	var d *dialed
	if err == nil {
		d, err = p.dialFor(c, a)
	}
	if err != nil {
		refuse(c)
		return
	}
	d.splice(c, nil)
}

// A failure is what becomes of a dial, for whoever has to say it.
type failure uint8

const (
	failedOtherwise failure = iota
	failedProhibited
	failedNoNetwork
	failedNoHost
	failedRefused
	failedLate
	failedNoName
)

// failureOf says what became of a dial that ended with err.
func failureOf(err error) failure {
	var timeout net.Error
	switch {
	case errNoName(err):
		return failedNoName
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return failedProhibited
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return failedRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return failedNoNetwork
	case errors.Is(err, syscall.EHOSTUNREACH):
		return failedNoHost
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT),
		errors.As(err, &timeout) && timeout.Timeout():
		return failedLate
	}
	return failedOtherwise
}

// replyOf is the reply of RFC 1928, section 6, to a dial that ended with err.
func replyOf(err error) byte {
	return [...]byte{
		failedOtherwise:  replyFailed,
		failedProhibited: replyProhibited,
		failedNoNetwork:  replyNoNetwork,
		failedNoHost:     replyNoHost,
		failedRefused:    replyRefused,
		failedLate:       replyTimeout,
		failedNoName:     replyNoHost,
	}[failureOf(err)]
}
