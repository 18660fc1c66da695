package lab

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// reaches tries to connect to a port for a moment.
func reaches(t *testing.T, m *Machine, to netip.Addr, port uint16) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	c, err := m.Dial(ctx, "tcp", netip.AddrPortFrom(to, port).String())
	if err == nil {
		c.Close()
	}
	return err == nil || errors.Is(err, unix.ECONNREFUSED)
}

// TestCorp: the firewall stands between the private network and the internet, and lets
// through what it says, whichever side the laptop is on.
func TestCorp(t *testing.T) {
	type try struct {
		from, to string
		addr     netip.Addr
		port     uint16
		want     bool
	}
	for _, tt := range []struct {
		place Place
		tries []try
	}{
		{CorpAroundLaptop, []try{
			{"laptop", "corp", Corp4, WebPort, true}, {"laptop", "corp", Corp6, EchoPort, true}, {"laptop", "its resolver", CorpDNS4, 53, true},
			{"laptop", "gateway", Gateway4, SSHPort, true}, {"laptop", "gateway", Gateway6, 80, false},
			{"laptop", "internet", Web4, WebPort, false}, {"laptop", "internet", Web6, WebPort, false},
			{"gateway", "internet", Web4, WebPort, true}, {"gateway", "corp", Corp4, WebPort, false}, {"gateway", "laptop", Laptop4, 80, false},
			{"corp", "gateway", Gateway4, SSHPort, false}, {"internet", "corp", Corp6, WebPort, false},
		}},
		{CorpAroundGateway, []try{
			{"laptop", "internet", Web4, WebPort, true}, {"laptop", "internet", Web6, WebPort, true}, {"laptop", "its resolver", DNS4, 53, true},
			{"laptop", "gateway", Gateway4, SSHPort, true}, {"laptop", "office", CorpGateway4, SSHPort, true}, {"laptop", "office", CorpGateway6, SSHPort, true},
			{"laptop", "gateway", Gateway4, 80, false}, {"laptop", "office", CorpGateway4, 80, false},
			{"laptop", "corp", Corp4, WebPort, false}, {"laptop", "corp", Corp6, WebPort, false},
			{"gateway", "corp", Corp4, WebPort, true}, {"gateway", "corp", Corp6, WebPort, true}, {"corp", "gateway", Gateway4, SSHPort, true},
			{"gateway", "internet", Web4, WebPort, false}, {"gateway", "internet", Web6, WebPort, false}, {"gateway", "laptop", Laptop4, 80, false},
			{"internet", "corp", Corp4, WebPort, false}, {"internet", "laptop", Laptop4, 80, true},
		}},
	} {
		l, err := New(t.Context(), Options{Corp: tt.place})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		machines := map[string]*Machine{"laptop": l.Laptop, "gateway": l.Gateway, "internet": l.Internet, "corp": l.Corp}
		for _, try := range tt.tries {
			if got := reaches(t, machines[try.from], try.addr, try.port); got != try.want {
				t.Errorf("place %d: that %s reaches %s at %v, port %d, is %v", tt.place, try.from, try.to, try.addr, try.port, got)
			}
		}
		for account, target := range map[string]string{"me": "gw", "root": "office"} {
			if target == "office" && tt.place == CorpAroundLaptop {
				continue
			}
			if out, err := l.Laptop.Command(t.Context(), "ssh", "-o", "BatchMode=yes", target, "hostname").As(account).CombinedOutput(); string(out) != "gateway\n" {
				t.Errorf("place %d: ssh %s: %q, %v", tt.place, target, out, err)
			}
		}
		inside := l.Laptop
		if tt.place == CorpAroundGateway {
			inside = l.Gateway
		}
		out, err := inside.Command(t.Context(), "dig", "+short", "+time=2", "+tries=1", "files.corp.example").CombinedOutput()
		if strings.TrimSpace(string(out)) != Corp4.String() {
			t.Errorf("place %d: the private network's name: %s, %v", tt.place, out, err)
		}
		if asked := l.CorpResolver.Asked(); !slices.Equal(asked, []string{"files.corp.example."}) {
			t.Errorf("place %d: the private resolver was asked for %q", tt.place, asked)
		}
		if asked := l.Resolver.Asked(); len(asked) != 0 {
			t.Errorf("place %d: the internet's resolver was asked for %q", tt.place, asked)
		}
	}
}

// TestScanIsCaptured: every probe of a scan is seen where it arrives, in both families.
func TestScanIsCaptured(t *testing.T) {
	l := sharedLab(t)
	for _, to := range []netip.Addr{Web4, Web6} {
		c, err := l.Internet.Capture("eth0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		sent, err := l.Gateway.Scan(to)
		if err != nil || sent != 65535+1024+1 {
			t.Errorf("%d probes were sent to %v: %v", sent, to, err)
		}
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			if in, out := c.Count(); in >= sent && out > 65535 {
				break
			}
		}
		in, out := c.Count()
		if in < sent || in > sent+10 || out < 65536 { // every SYN is answered, and the echo request
			t.Errorf("%v: %d probes were sent, %d packets came in, and %d went out:\n%s", to, sent, in, out, strings.Join(c.In(), "\n"))
		}
	}
}
