package farhalf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/tcp"
	"github.com/bodkin-net/bodkin/carrier/telnet"
)

// TestThroughTelnetd starts the far half, first with an upload, in the shell that each
// real telnetd gives, and leaves it by closing the connection.
func TestThroughTelnetd(t *testing.T) {
	for _, server := range [][]string{{"/usr/sbin/telnetd", "-h", "-E"}, {"busybox", "telnetd", "-i", "-f", "/dev/null", "-l"}} {
		t.Run(filepath.Base(server[0]), func(t *testing.T) { throughTelnetd(t, server) })
	}
}

func throughTelnetd(t *testing.T, server []string) {
	builds := paddedBuild(t, 50<<10)
	home := t.TempDir()
	shell, err := filepath.Abs("testdata/recording-shell")
	if err != nil {
		t.Fatal(err)
	}
	account := filepath.Join(home, "account")
	text := fmt.Sprintf("#!/bin/sh\nexport HOME=%s PATH=/usr/bin:/bin\nexec %s\n", home, shell)
	if err := os.WriteFile(account, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	for again := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		s, ended := telnetd(ctx, t, append(server, account))
		until(t, s, "ready> ")
		nonce := NewNonce()
		s, result, err := StartInShell(ctx, s, Options{Nonce: nonce, Builds: builds})
		echoes(t, s, err)
		if result.Uploaded != (again == 0) {
			t.Errorf("%d: %+v", again, result)
		}
		s.Close()
		if err := <-ended; err != nil && ctx.Err() != nil {
			t.Error(err)
		}
		typed := filepath.Join(home, "typed")
		got, err := os.ReadFile(typed)
		if err != nil || !bytes.Equal(got, []byte(typedLine(nonce)+"\n")) {
			t.Errorf("the shell read %q, %v", got, err)
		}
		os.Remove(typed)
	}
}

// telnetd starts one for one connection, as inetd does, and connects to it. ended is
// its end.
func telnetd(ctx context.Context, t *testing.T, server []string) (s carrier.Stream, ended chan error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := tcp.Dial(ctx, l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	socket, err := far.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	cmd := exec.CommandContext(ctx, server[0], server[1:]...)
	var said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if said.Len() > 0 {
			err = errors.Join(err, errors.New(said.String()))
		}
		ended <- err
	}()
	s = telnet.Open(near, telnet.Options{}).Stream()
	t.Cleanup(func() { s.Close() })
	return s, ended
}
