package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
)

// maxInetd bounds the connections that one Inetd holds at once: each is three
// processes and a tty. More are closed as they come.
const maxInetd = 128

// An Inetd starts a program of a machine for each connection to a port, with the
// connection as its standard input, output and error, as inetd(8) does.
type Inetd struct {
	services *services
	end      context.CancelFunc // kills the programs
	port     uint16
}

// Inetd begins to listen on a port of all the machine's addresses for a program, run
// as root, with arguments. It ends with the Lab unless Close ends it before.
func (m *Machine) Inetd(port uint16, program string, args ...string) (*Inetd, error) {
	s, err := newServices(m, maxInetd)
	if err != nil {
		return nil, err
	}
	listener, err := m.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		s.close()
		return nil, fmt.Errorf("lab: %s: listening for %s: %w", m.Name, program, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &Inetd{services: s, end: cancel, port: listenerPort(listener)}
	s.accept(listener, func(c net.Conn) {
		file, err := c.(*net.TCPConn).File()
		c.Close() // file is a copy; the connection ends with the program
		if err != nil {
			return
		}
		cmd := m.Command(ctx, program, args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = file, file, file
		err = cmd.Start()
		file.Close()
		if err == nil {
			cmd.Wait()
		}
	})
	s.closers = append(s.closers, closerFunc(cancel))
	return d, nil
}

// Port is where it listens: what was asked for, or what the kernel chose for 0.
func (d *Inetd) Port() uint16 { return d.port }

// Close stops listening, kills the programs and waits for them. What they started
// ends as their terminals hang up.
func (d *Inetd) Close() error {
	d.services.close()
	return nil
}

func listenerPort(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }

// A closerFunc is an io.Closer whose Close calls it.
type closerFunc func()

func (f closerFunc) Close() error {
	f()
	return nil
}

// telnetdProgram is Debian's (GNU inetutils).
const telnetdProgram = "/usr/sbin/telnetd"

// TelnetdOptions choose what a telnet server lets in, and to what.
type TelnetdOptions struct {
	Port     uint16   // 0 is TelnetPort
	Account  string   // that may log in; "" is "me"
	Password string   // of the account; "" leaves it without one that fits
	Shell    string   // login shell of the account, see Machine.Install; "" leaves what it has
	Motd     string   // what a login reads before its shell starts
	Program  []string // runs on the terminal as root in place of login; no account is needed then
}

// Telnetd starts Debian's telnetd with the real login, and returns when it listens.
func (m *Machine) Telnetd(ctx context.Context, o TelnetdOptions) (*Inetd, error) {
	if _, err := os.Stat(telnetdProgram); err != nil {
		return nil, fmt.Errorf("lab: %s: starting telnetd: %w (Debian's package inetutils-telnetd)", m.Name, err)
	}
	if err := m.prepareLogin(ctx, &o); err != nil {
		return nil, err
	}
	var args []string
	if len(o.Program) > 0 {
		wrapper, err := m.wrapProgram(o.Program)
		if err != nil {
			return nil, err
		}
		args = []string{"--exec-login=" + wrapper}
	}
	return m.Inetd(o.Port, telnetdProgram, args...)
}

// BusyboxTelnetd starts busybox's telnetd with the real login, and returns when it
// listens. It negotiates little and takes anything.
func (m *Machine) BusyboxTelnetd(ctx context.Context, o TelnetdOptions) (*Inetd, error) {
	if err := m.Command(ctx, "sh", "-c", "busybox --list | grep -qx telnetd").Run(); err != nil {
		return nil, fmt.Errorf("lab: %s: starting busybox telnetd: %w (Debian's package busybox-static)", m.Name, err)
	}
	if err := m.prepareLogin(ctx, &o); err != nil {
		return nil, err
	}
	login := "/bin/login"
	if len(o.Program) > 0 {
		var err error
		if login, err = m.wrapProgram(o.Program); err != nil {
			return nil, err
		}
	}
	return m.Inetd(o.Port, "busybox", "telnetd", "-i", "-l", login)
}

// wrapProgram makes one word of a program and its arguments, as telnetd wants it.
func (m *Machine) wrapProgram(words []string) (path string, err error) {
	if len(words) == 1 {
		return words[0], nil
	}
	err = m.Do(func() error {
		return whileNobodyForks(func() error {
			f, err := os.CreateTemp("/usr/local/bin", "lab-login.")
			if err != nil {
				return err
			}
			path = f.Name()
			_, err = f.WriteString("#!/bin/sh\nexec " + quote(words) + "\n")
			return errors.Join(err, f.Chmod(0o755), f.Close())
		})
	})
	if err != nil {
		return "", fmt.Errorf("lab: %s: writing a login program: %w", m.Name, err)
	}
	return path, nil
}
