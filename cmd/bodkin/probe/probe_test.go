package probe

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/config"
)

// serve listens on loopback, says a word to whoever comes, and returns its port.
func serve(t *testing.T, word string) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, word)
			c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// proxy is a web proxy that connects to nobody, and lets a server of ours answer.
func proxy(t *testing.T) string {
	port := serve(t, "HTTP/1.1 200 OK\r\n\r\nSSH-2.0-behind\r\n")
	return (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}).String()
}

func TestProbe(t *testing.T) {
	shut := serve(t, "")
	l, _ := net.Listen("tcp", "127.0.0.1:0") // a port where surely nobody is
	nobody := l.Addr().(*net.TCPAddr).Port
	l.Close()
	ssh, telnet := serve(t, "SSH-2.0-Open\x1b[2JSSH\r\n"), serve(t, "\xff\xfd\x18")
	via, err := config.ParseVia("http://" + proxy(t))
	if err != nil {
		t.Fatal(err)
	}
	p := prober{
		target: config.Hop{Scheme: config.SSH, User: "me", Host: "127.0.0.1"}, secrets: &secret.Sources{},
		ports: []int{ssh, telnet, shut, nobody}, proxies: []config.Hop{via},
	}
	r := p.run(t.Context())
	found := func(at int) string { return r.Tries[at].Found }
	if len(r.Tries) != 6 || found(0) != "ssh" || found(1) != "telnet" || found(2) != "something" || !strings.Contains(found(3), "refused") || found(4) != "ssh" {
		t.Fatalf("%+v", r.Tries)
	}
	if r.Tries[3].Works || !r.Tries[2].Works {
		t.Errorf("%+v", r.Tries)
	}
	if len(r.Commands) != 5 || !strings.HasPrefix(r.Commands[0], "bodkin up me@127.0.0.1:") || !slices.ContainsFunc(r.Commands, func(c string) bool { return strings.Contains(c, "--via http://127.0.0.1:") }) {
		t.Errorf("%q", r.Commands)
	}
	var said bytes.Buffer
	say(&said, r)
	if strings.ContainsRune(said.String(), 0x1b) || !strings.Contains(said.String(), "SSH-2.0-Open?[2JSSH") {
		t.Errorf("it said %q", said.String())
	}
}

func TestProbeNothing(t *testing.T) {
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	nobody := l.Addr().(*net.TCPAddr).Port
	l.Close()
	p := prober{target: config.Hop{Scheme: config.SSH, Host: "127.0.0.1"}, secrets: &secret.Sources{}, ports: []int{nobody}}
	r := p.run(t.Context())
	if len(r.Commands) != 0 || len(r.Others) == 0 {
		t.Errorf("%+v", r)
	}
}
