package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A typist talks telnet by hand: it lets the peer echo, refuses every other option
// and shows the rest.
type typist struct {
	t      *testing.T
	conn   net.Conn
	binary bool // it asked for BINARY both ways, and takes the answers
}

// typistAt dials a telnet server from a machine.
func typistAt(t *testing.T, m *Machine, to netip.AddrPort) *typist {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := m.Dial(ctx, "tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &typist{t: t, conn: c}
}

// see reads until the text ends in what is wanted, and returns what came.
func (y *typist) see(want string) string {
	y.t.Helper()
	got, err := y.until(func(s string) bool { return strings.HasSuffix(s, want) })
	if err != nil {
		y.t.Fatalf("waiting for %q: %v after %q", want, err, got)
	}
	return got
}

// end reads to the end of the connection, and returns what came.
func (y *typist) end() string {
	y.t.Helper()
	got, err := y.until(func(string) bool { return false })
	if !errors.Is(err, io.EOF) {
		y.t.Fatalf("waiting for the end: %v after %q", err, got)
	}
	return got
}

// until reads one octet after the other until done is content with the text.
func (y *typist) until(done func(string) bool) (string, error) {
	var text strings.Builder
	var octet [1]byte
	next := func() byte {
		if _, err := io.ReadFull(y.conn, octet[:]); err != nil {
			panic(err)
		}
		return octet[0]
	}
	var err error
	func() {
		defer func() {
			if r := recover(); r != nil {
				err = r.(error)
			}
		}()
		for !done(text.String()) {
			switch b := next(); {
			case b != iac:
				text.WriteByte(b)
			default:
				switch verb := next(); verb {
				case iac:
					text.WriteByte(iac)
				case will, wont:
					option := next()
					switch {
					case option == optBinary && y.binary:
					case verb == will && option == optEcho:
						y.conn.Write([]byte{iac, do, option})
					case verb == will:
						y.conn.Write([]byte{iac, dont, option})
					}
				case do, dont:
					if option := next(); verb == do && !(option == optBinary && y.binary) {
						y.conn.Write([]byte{iac, wont, option})
					}
				}
			}
		}
	}()
	return text.String(), err
}

// types sends a line.
func (y *typist) types(line string) {
	y.t.Helper()
	if _, err := y.conn.Write([]byte(line + "\r\n")); err != nil {
		y.t.Fatal(err)
	}
}

func TestTelnetd(t *testing.T) {
	l := sharedLab(t)
	for _, tt := range []struct {
		name   string
		port   uint16
		start  func(context.Context, TelnetdOptions) (*Inetd, error)
		prompt string // of login, as the server puts it
	}{
		{"inetutils", 2323, l.Gateway.Telnetd, "login: "},
		{"busybox", 2324, l.Gateway.BusyboxTelnetd, "login: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, err := tt.start(t.Context(), TelnetdOptions{Port: tt.port, Password: "sesame 1", Motd: "no games\n"})
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			y := typistAt(t, l.Gateway, netip.AddrPortFrom(Gateway4, tt.port))
			y.see(tt.prompt)
			y.types("me")
			y.see("assword: ")
			y.types("wrong")
			if said := y.see(tt.prompt); !strings.Contains(said, "Login incorrect") {
				t.Errorf("a wrong password: %q", said)
			}
			y.types("me")
			y.see("assword: ")
			y.types("sesame 1")
			if said := y.see("$ "); !strings.Contains(said, "no games") || strings.Contains(said, "sesame") {
				t.Errorf("at the login: %q", said)
			}
			y.types("echo $((6*7)) $(id -un) $(tty)")
			if said := y.see("$ "); !strings.Contains(said, "42 me /dev/pts/") {
				t.Errorf("the shell said %q", said)
			}
			y.types("exit")
			y.end()
		})
	}
}
