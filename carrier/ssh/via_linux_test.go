package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/carriertest"
	"github.com/bodkin-net/bodkin/carrier/tcp"
)

// plainly is a Stream that is no socket, and that does no more than it must.
type plainly struct{ c *net.TCPConn }

func (p plainly) Read(b []byte) (int, error)  { return p.c.Read(b) }
func (p plainly) Write(b []byte) (int, error) { return p.c.Write(b) }
func (p plainly) Close() error                { return p.c.Close() }

// TestReach: ssh over a connection that somebody else has made, as it is and through
// this process.
func TestReach(t *testing.T) {
	server := startServer(t)
	asked := make(chan string, 100)
	reaches := map[string]func(context.Context, string) (carrier.Stream, error){
		"the socket itself": func(ctx context.Context, address string) (carrier.Stream, error) {
			asked <- address
			return tcp.Dial(ctx, address, nil)
		},
		"a stream": func(ctx context.Context, address string) (carrier.Stream, error) {
			asked <- address
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return carrier.Stream{}, err
			}
			return carrier.Stream{ReadWriteCloser: plainly{c.(*net.TCPConn)}}, nil
		},
	}
	for name, reach := range reaches {
		t.Run(name, func(t *testing.T) {
			carriertest.Test(t, func(t *testing.T) carrier.Stream {
				c := server.client("exec " + os.Args[0] + " serve")
				c.Reach, c.Dial = reach, nil
				s, info := dial(t, c)
				if address := <-asked; address != fmt.Sprintf("127.0.0.1:%d", server.port) || info.Direct {
					t.Errorf("asked for %s, %+v", address, info)
				}
				return s
			})
		})
	}
}

// TestReachConfig: the way that is given counts, and not the one in the config; what
// it fails with comes back as it is; and one that eats octets is not for ssh.
func TestReachConfig(t *testing.T) {
	server := startServer(t)
	marker := filepath.Join(t.TempDir(), "marker")
	text, err := os.ReadFile(server.config)
	if err != nil {
		t.Fatal(err)
	}
	server.config = server.write(t, "with_proxy", string(text)+"\nProxyCommand touch "+marker+"\n")
	c := server.client("echo hello")
	c.Reach = func(ctx context.Context, address string) (carrier.Stream, error) { return tcp.Dial(ctx, address, nil) }
	s, info := dial(t, c)
	hello := make([]byte, 6)
	if _, err := s.Read(hello); err != nil || string(hello) != "hello\n" {
		t.Errorf("%q, %v", hello, err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("the config's ProxyCommand ran")
	}
	if !strings.Contains(fmt.Sprint(info.Notes), "ProxyCommand") {
		t.Errorf("notes: %q", info.Notes)
	}

	broken := errors.New("no way")
	c.Reach = func(context.Context, string) (carrier.Stream, error) { return carrier.Stream{}, broken }
	if _, _, err := Dial(t.Context(), c); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	c.Reach = func(ctx context.Context, address string) (carrier.Stream, error) {
		s, err := tcp.Dial(ctx, address, nil)
		s.Unsafe.Add(0x13)
		return s, err
	}
	var refused *carrier.RefusedError
	if _, _, err := Dial(t.Context(), c); !errors.As(err, &refused) || refused.Hint == "" {
		t.Errorf("a way that eats XOFF: %v", err)
	}
}

// TestForward: sshd as a jump host.
func TestForward(t *testing.T) {
	server := startServer(t)
	l, err := tcp.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if s, err := l.Accept(); err == nil {
			s.Write([]byte("behind it"))
			s.Close()
		}
	}()
	c := server.client("")
	c.Forward = l.Addr().String()
	s, _ := dial(t, c)
	var got bytes.Buffer
	if _, err := got.ReadFrom(s); err != nil || got.String() != "behind it" {
		t.Errorf("%q, %v", got.String(), err)
	}
}
