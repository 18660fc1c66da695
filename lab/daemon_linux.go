package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	daemonStart = 10 * time.Second      // from the start of a daemon to its first connection; squid takes half of one
	daemonTry   = 10 * time.Millisecond // between two tries to connect: foreign daemons tell nobody when they listen
	daemonEnd   = 5 * time.Second       // from SIGKILL to the end of the last child
	daemonLog   = 64 << 10              // octets kept of what a daemon says, the last ones
)

// A Daemon is a real program that serves on a machine.
type Daemon struct {
	port uint16
	cmd  *Cmd
	log  lastOctets

	gone chan struct{} // closed when the process was waited for
}

// startDaemon starts a program that stays in the foreground, and returns when it
// accepts connections at an address.
func (m *Machine) startDaemon(ctx context.Context, at netip.AddrPort, program string, args ...string) (*Daemon, error) {
	d := &Daemon{port: at.Port(), gone: make(chan struct{})}
	d.cmd = m.Command(context.Background(), program, args...)
	d.cmd.Stdout, d.cmd.Stderr = &d.log, &d.log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(d.gone)
		d.cmd.Wait()
	}()
	ctx, cancel := context.WithTimeout(ctx, daemonStart)
	defer cancel()
	if err := d.await(ctx, m, at); err != nil {
		d.Close()
		return nil, fmt.Errorf("lab: %s: waiting for %s to listen: %w: %s", m.Name, program, err, d.Log())
	}
	return d, nil
}

// await returns when a connection is accepted.
func (d *Daemon) await(ctx context.Context, m *Machine, at netip.AddrPort) error {
	again := time.NewTicker(daemonTry)
	defer again.Stop()
	for {
		c, err := m.Dial(ctx, "tcp", at.String())
		if err == nil {
			return c.Close()
		}
		if !errors.Is(err, unix.ECONNREFUSED) {
			return err
		}
		select {
		case <-again.C:
		case <-d.gone:
			return errors.New("it ended")
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Port is where it listens.
func (d *Daemon) Port() uint16 { return d.port }

// Log is the last of what it said on its standard output and error.
func (d *Daemon) Log() string { return d.log.String() }

// Close kills the daemon and its children, which have nothing to save, and waits until
// all have ended.
func (d *Daemon) Close() error {
	select {
	case <-d.gone:
		return nil
	default:
	}
	family, err := d.family()
	if err != nil {
		return fmt.Errorf("lab: ending %s: %w", d.cmd.name, err)
	}
	d.cmd.Process.Kill() // first, so that it starts no other
	for _, child := range family {
		unix.PidfdSendSignal(child, unix.SIGKILL, nil, 0) // fails if it ended on its own
	}
	<-d.gone
	var failed error
	for _, child := range family {
		defer unix.Close(child)
		// The descriptor is readable once it has (pidfd_open(2)).
		n, err := 0, error(unix.EINTR)
		for err == unix.EINTR {
			n, err = unix.Poll([]unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}, int(daemonEnd.Milliseconds()))
		}
		if n != 1 {
			failed = fmt.Errorf("lab: ending %s: a child of it does not end: %v", d.cmd.name, err)
		}
	}
	return failed
}

// family holds the daemon's descendants by descriptors, which the caller closes.
func (d *Daemon) family() (children []int, err error) {
	all, err := d.cmd.machine.Processes()
	if err != nil {
		return nil, err
	}
	members := []int{d.cmd.Process.Pid}
	for i := 0; i < len(members); i++ {
		for _, p := range all {
			if p.PPID != members[i] {
				continue
			}
			members = append(members, p.PID)
			if fd, err := unix.PidfdOpen(p.PID, 0); err == nil { // else it has ended
				children = append(children, fd)
			}
		}
	}
	return children, nil
}

// lastOctets keeps the last daemonLog octets that are written to it.
type lastOctets struct {
	mu     sync.Mutex
	octets []byte
}

func (l *lastOctets) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.octets = append(l.octets, b...)
	if n := len(l.octets); n > daemonLog {
		l.octets = append(l.octets[:0], l.octets[n-daemonLog:]...)
	}
	return len(b), nil
}

func (l *lastOctets) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(string(l.octets))
}

// needProgram is an error that names the package if a program is missing.
func needProgram(program, pkg string) error {
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("%w (Debian's package %s)", err, pkg)
	}
	return nil
}

// loopback is where the machine itself finds a port of all its addresses.
func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}
