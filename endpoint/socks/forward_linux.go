package socks

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// A udpForward is a UDP port of this machine that leads to one destination. Each
// program that sends to it is told apart by its address.
type udpForward struct {
	*net.UDPConn
	p *Proxy
	f Forward

	mu    sync.Mutex
	flows map[netip.AddrPort]*udpFlow // at most Limits.Associations
}

// A udpFlow is one program at a udpForward.
type udpFlow struct {
	queue chan []byte // datagrams for the destination
}

// flowQueue is how many datagrams of a flow wait while its destination is looked up
// and its socket made; more are dropped.
const flowQueue = 16

func (p *Proxy) newUDPForward(f Forward) (*udpForward, error) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(f.Listen))
	if err != nil {
		return nil, fmt.Errorf("socks: %w", err)
	}
	return &udpForward{UDPConn: c, p: p, f: f, flows: make(map[netip.AddrPort]*udpFlow)}, nil
}

// run carries what programs send until Close.
func (u *udpForward) run() {
	var wg sync.WaitGroup
	defer wg.Wait()
	b := make([]byte, maxDatagram)
	for {
		n, from, err := u.ReadFromUDPAddrPort(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a program that is gone
		}
		u.mu.Lock()
		flow := u.flows[from]
		if flow == nil && len(u.flows) < u.p.c.Limits.Associations {
			flow = &udpFlow{queue: make(chan []byte, flowQueue)}
			u.flows[from] = flow
			u.p.count.forwarded.Add(1)
			wg.Go(func() { u.carry(from, flow) })
		}
		u.mu.Unlock()
		if flow == nil {
			u.p.count.limit.Add(1)
			continue
		}
		select {
		case flow.queue <- append([]byte(nil), b[:n]...):
		default:
			u.p.count.datagrams.Add(1)
		}
	}
}

// carry is the life of one flow.
func (u *udpForward) carry(from netip.AddrPort, flow *udpFlow) {
	defer func() {
		u.mu.Lock()
		delete(u.flows, from)
		u.mu.Unlock()
	}()
	c, err := u.p.DialContext(u.p.ctx, "udp", u.f.To)
	if err != nil {
		u.p.count.failed.Add(1)
		return
	}
	back := make(chan struct{})
	go func() {
		defer close(back)
		b := make([]byte, maxDatagram)
		for {
			n, err := c.Read(b)
			if timeout, ok := err.(net.Error); errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || ok && timeout.Timeout() {
				return
			}
			if err == nil { // else what came back about a datagram
				c.SetReadDeadline(time.Now().Add(u.p.c.Limits.Idle))
				u.WriteToUDPAddrPort(b[:n], from)
			}
		}
	}()
	c.SetReadDeadline(time.Now().Add(u.p.c.Limits.Idle))
	for {
		select {
		case data := <-flow.queue:
			c.SetReadDeadline(time.Now().Add(u.p.c.Limits.Idle))
			if _, err := c.Write(data); err != nil {
				u.p.count.datagrams.Add(1)
			}
			continue
		case <-u.p.ctx.Done():
		case <-back:
		}
		break
	}
	c.Close()
	<-back
}
