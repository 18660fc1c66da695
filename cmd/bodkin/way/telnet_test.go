package way

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/telnet"
	"github.com/bodkin-net/bodkin/config"
)

// TestTelnetProxy: what looks like a prompt at the beginning of a line is none while
// the line goes on, and what follows the dialogue is where it was, whatever comes next.
func TestTelnetProxy(t *testing.T) {
	for _, c := range []struct {
		name, greeting, answer string
		next                   config.Scheme
		want                   string // the first octets behind the proxy
	}{
		{"plainly", "tn-gw-> ", "Connected to home.\r\n", config.SSH, "SSH-2.0-x\xff\xff"},
		{"a banner like prompts", "login: is for staff\r\nPassword: ask them\r\na-> b\r\ntn-gw-> ", "Trying...\r\nConnected to home.\r\n", config.SSH, "SSH-2.0-x\xff\xff"},
		{"it never says that it is connected", "tn-gw-> ", "Trying 198.51.100.22 port 22...\r\n", config.SSH, "SSH-2.0-x\r\n\xff\xff"},
		{"to a telnet server", "tn-gw-> ", "Connected to home.\r\n", config.Telnet, "\xff\xfb\x01home login: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			far.SetDeadline(time.Now().Add(20 * time.Second))
			near.SetDeadline(time.Now().Add(20 * time.Second))
			typed := make(chan string, 1)
			go func() {
				io.WriteString(far, c.greeting)
				line, _ := bufio.NewReader(far).ReadString('\r')
				typed <- line
				io.WriteString(far, c.answer+c.want)
				io.Copy(io.Discard, far)
			}()
			w := &Way{}
			h := config.Hop{Scheme: config.Telnet, Host: "tn-gw", Port: 23}
			conn := telnet.Open(carrier.Stream{ReadWriteCloser: near, Socket: socket{}}, telnet.Options{Passive: true})
			s, err := w.telnetProxy(h, "home:22", c.next)(t.Context(), conn.Stream())
			if err != nil {
				t.Fatal(err)
			}
			if line := <-typed; line != "c home 22\r" {
				t.Errorf("it was told %q", line)
			}
			want := c.want
			if c.next == config.Telnet {
				if s, err = w.telnet(h, true)(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				want = "home login: "
			}
			if s.Socket.Path() != (carrier.Path{}) {
				t.Error("behind the proxy there is the socket to the proxy")
			}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(s, got); err != nil || string(got) != want {
				t.Errorf("behind it %q, %v", got, err)
			}
		})
	}
}

// A socket is one to a proxy.
type socket struct{}

func (socket) Path() carrier.Path { return carrier.Path{Lost: 1} }

// TestDialogueKeepsSocket: a dialogue alone is no relay.
func TestDialogueKeepsSocket(t *testing.T) {
	for _, relayed := range []bool{false, true} {
		s, err := dialogue(carrier.Stream{Socket: socket{}}, func(s carrier.Stream) (carrier.Stream, error) {
			if relayed {
				s = s.Relayed()
			}
			return s, nil
		})
		if err != nil || (s.Socket.Path() == carrier.Path{}) != relayed {
			t.Errorf("relayed %v: socket %v, %v", relayed, s.Socket.Path(), err)
		}
	}
}
