package e2e_test

import (
	"net/netip"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// TestFarPPPD: the far side's own pppd, behind the real sshd, is the way to the
// internet, and nothing of ours is there.
func TestFarPPPD(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Gateway.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	if err := w.RoutePPPD("me", netip.MustParsePrefix("10.9.0.0/24")); err != nil {
		t.Fatal(err)
	}
	before := w.snapshot()
	w.up("--far", "pppd notty noauth 10.9.0.2:10.9.0.1 ms-dns "+lab.DNS4.String(), "me@gw")
	w.carries()
	w.laptop("curl", "-sS", "-m", "20", "-f", "-o", "/dev/null", "http://only4.example/")
	w.laptop("ping", "-c", "1", "-W", "5", lab.Web4.String())
	w.changed(before)
	w.nothingOfOurs(w.Gateway)
	w.down()
	w.asBefore(before, "down")
	w.noProcesses()
	w.eventually("pppd and its guest are gone", func() bool {
		ps, err := w.Gateway.Processes()
		for _, p := range ps {
			if len(p.Args) > 0 && p.UID == lab.GatewayUID {
				return false
			}
		}
		return err == nil
	})
}

// TestCottyJoinsPPPDAndSlirp is the seed's own use, with its own words: the local
// pppd on one terminal, slirp at the end of a login on another.
func TestCottyJoinsPPPDAndSlirp(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Laptop.InstallPPPD(); err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.InstallSlirp(); err != nil {
		t.Fatal(err)
	}
	if err := w.Laptop.InstallAs(program, "cotty"); err != nil {
		t.Fatal(err)
	}
	w.laptop("cotty", "-d", "--",
		"pppd", "noauth", "noipdefault", ":10.0.2.2", "defaultroute", "usepeerdns", "--",
		"ssh", "-t", "-o", "BatchMode=yes", "gw", "slirp", "ppp")
	var p *lab.PPPD
	w.eventually("pppd runs", func() (there bool) {
		var err error
		p, err = w.Laptop.AttachPPPD()
		return err == nil
	})
	defer p.Close()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(w.on(w.Laptop, "root", "sh", "-c", "ps -eo args; cd /tmp/lab-pppd.*/ && tail -n 100 log errors console init").out)
		}
	})
	ctx := within(t, patience)
	if local, _, err := p.AwaitUp(ctx, "ipv4"); err != nil || local != "10.0.2.15" {
		t.Fatalf("pppd has %q, %v\n%s", local, err, p.Log())
	}
	w.inGuest(p, "ping", "-c", "1", "-W", "5", "10.0.2.2")
	if page := w.inGuest(p, "curl", "-sS", "-m", "20", url(lab.Web4, "/")); page != "bodkin lab\n" {
		t.Errorf("the page is %q", page)
	}
	w.says(w.inGuest(p, "cat", "/etc/ppp/resolv.conf"), "nameserver "+lab.DNS4.String())
	w.killTheOnly(w.Gateway, "slirp", "ppp")
	w.eventually("all of it has ended", func() bool {
		ps, err := w.Laptop.Processes()
		return err == nil && len(ps) == 0
	})
}
