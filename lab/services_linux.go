package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// services are what this process answers with on a machine.
type services struct {
	machine  *Machine
	maxConns int
	closers  []io.Closer
	running  sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool // nil once closed
}

// maxFlows bounds the echo and DNS connections held at once: several times what a
// test with 500 flows needs.
const maxFlows = 4096

// newServices begins services on a machine, with a limit for the connections held at
// once. They end with the Lab unless close ends them before.
func newServices(m *Machine, maxConns int) (*services, error) {
	s := &services{machine: m, maxConns: maxConns, conns: make(map[net.Conn]bool)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.services == nil {
		return nil, fmt.Errorf("lab: %s: the machine is closed", m.Name)
	}
	m.services[s] = true
	return s, nil
}

// serve opens every service of the internet and of the private network.
func (l *Lab) serve() error {
	l.Resolver = &Resolver{zone: Zone}
	if _, err := l.Internet.answer([]netip.Addr{Web4, Web6, Office4, Office6}, []netip.Addr{DNS4, DNS6}, l.Resolver); err != nil {
		return err
	}
	if l.Corp == nil {
		return nil
	}
	l.CorpResolver = &Resolver{zone: CorpZone}
	_, err := l.Corp.answer([]netip.Addr{Corp4, Corp6}, []netip.Addr{CorpDNS4, CorpDNS6}, l.CorpResolver)
	return err
}

// Answer has addresses of the machine, which it must have, answer as Web4 does, and as a
// resolver that knows them as here.example, until Close or the Lab's end. It is for what
// comes and goes with a test.
func (m *Machine) Answer(addrs ...netip.Addr) (io.Closer, error) {
	s, err := m.answer(addrs, addrs, &Resolver{zone: map[string][]netip.Addr{"here.example.": addrs}})
	if err != nil {
		return nil, err
	}
	return closerFunc(s.close), nil
}

// answer opens the services of hosts and of resolvers.
func (m *Machine) answer(hosts, resolvers []netip.Addr, r *Resolver) (*services, error) {
	s, err := newServices(m, maxFlows)
	if err != nil {
		return nil, err
	}
	err = s.openHosts(hosts)
	if err == nil {
		err = s.openResolvers(resolvers, r)
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("lab: %s: %w", m.Name, err)
	}
	return s, nil
}

func (s *services) openHosts(addrs []netip.Addr) error {
	m := s.machine
	for _, a := range addrs {
		web, err := m.Listen("tcp", netip.AddrPortFrom(a, WebPort).String())
		if err != nil {
			return err
		}
		server := &http.Server{Handler: webHandler(), ReadHeaderTimeout: 30 * time.Second}
		s.closers = append(s.closers, server)
		s.running.Go(func() { server.Serve(web) })

		echo, err := m.Listen("tcp", netip.AddrPortFrom(a, EchoPort).String())
		if err != nil {
			return err
		}
		s.accept(echo, echoStream)

		datagrams, err := m.ListenPacket("udp", netip.AddrPortFrom(a, EchoPort).String())
		if err != nil {
			return err
		}
		s.closers = append(s.closers, datagrams)
		s.running.Go(func() { echoDatagrams(datagrams) })

		silent, err := m.listenSilent(netip.AddrPortFrom(a, SilentPort))
		if err != nil {
			return err
		}
		s.closers = append(s.closers, silent)
	}
	return nil
}

func (s *services) openResolvers(addrs []netip.Addr, r *Resolver) error {
	m := s.machine
	for _, a := range addrs {
		address := netip.AddrPortFrom(a, 53).String()
		streams, err := m.Listen("tcp", address)
		if err != nil {
			return err
		}
		s.accept(streams, r.serveStream)
		datagrams, err := m.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, datagrams)
		s.running.Go(func() { r.serveDatagrams(datagrams) })
	}
	return nil
}

// accept hands every connection of l to handle, each in a goroutine of its own.
func (s *services) accept(l net.Listener, handle func(net.Conn)) {
	s.closers = append(s.closers, l)
	s.running.Go(func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
				continue
			}
			if err != nil {
				return
			}
			if !s.hold(c) {
				c.Close()
				continue
			}
			s.running.Go(func() {
				defer s.release(c)
				handle(c)
			})
		}
	})
}

func (s *services) hold(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns == nil || len(s.conns) >= s.maxConns {
		return false
	}
	s.conns[c] = true
	return true
}

func (s *services) release(c net.Conn) {
	c.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// close ends every service and waits for its goroutines.
func (s *services) close() {
	for _, c := range s.closers {
		c.Close()
	}
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.running.Wait()

	s.machine.mu.Lock()
	delete(s.machine.services, s)
	s.machine.mu.Unlock()
}

func echoStream(c net.Conn) {
	io.Copy(c, c) // ends with the sender's FIN, and then sends ours
}

func echoDatagrams(c net.PacketConn) {
	buf := make([]byte, 65535)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.WriteTo(buf[:n], from) // one that is lost is lost, as on any network
		}
	}
}

// A silentListener is a socket that listens and never accepts.
type silentListener int

func (fd silentListener) Close() error { return unix.Close(int(fd)) }

// listenSilent makes the kernel take connections that nobody answers.
func (m *Machine) listenSilent(at netip.AddrPort) (l silentListener, err error) {
	err = m.Do(func() error {
		domain, sa := unix.AF_INET, unix.Sockaddr(nil)
		if at.Addr().Is4() {
			sa = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
		} else {
			domain, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
		}
		fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		if err = unix.Bind(fd, sa); err == nil {
			err = unix.Listen(fd, 128)
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		l = silentListener(fd)
		return nil
	})
	return l, err
}
