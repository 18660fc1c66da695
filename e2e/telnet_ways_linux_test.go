package e2e_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// rootPassword is root's on the gateway.
const rootPassword = "root of it all 9"

// TestTelnetBusybox: busybox's telnetd, as small machines have it, which agrees to
// nothing; straight, with no proxy before it.
func TestTelnetBusybox(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	w.pair("tn-gw")
	if _, err := w.Gateway.BusyboxTelnetd(t.Context(), lab.TelnetdOptions{Password: password}); err != nil {
		t.Fatal(err)
	}
	if _, err := (lab.Chaos{}).Listen(w.Firewall, lab.TelnetPort, netip.AddrPortFrom(lab.Gateway4, lab.TelnetPort)); err != nil {
		t.Fatal(err)
	}
	w.up("--password", "@/home/me/password", "telnet://me@tn-gw")
	w.fullIP(2_000_000)
}

// TestTelnetBecomeRoot goes on from the account me to root, by su with root's password
// and by sudo with one's own, and has the kernel's own interface there. The keys are
// root's then.
func TestTelnetBecomeRoot(t *testing.T) {
	t.Parallel()
	w := telnetWorld(t, lab.TelnetProxyOptions{Echo: true}, lab.TelnetdOptions{})
	if err := w.Gateway.SetPassword(t.Context(), "root", rootPassword); err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.WriteFile("/etc/sudoers.d/me", []byte("me ALL=(ALL) ALL\n"), 0o440, "root"); err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.WriteFile("/etc/pam.d/sudo", []byte("auth required pam_unix.so nodelay\naccount required pam_unix.so\nsession required pam_unix.so\n"), 0o644, "root"); err != nil {
		t.Fatal(err)
	}
	w.pair("home")
	if r := w.on(w.Gateway, "root", "sh", "-c", "mkdir -p /root/.config && cp -r "+farDir+" /root/.config/ && chown -R root: /root/.config"); r.status != 0 {
		t.Fatal(r.out)
	}
	w.write(w.Laptop, "/home/me/root-password", rootPassword+"\n", "me")
	passwords := []string{"--password", "me@home=@/home/me/password", "--password", "root@home=@/home/me/root-password"}
	gateway := w.snapshotOf(w.Gateway)

	for _, become := range []string{"su", "sudo"} {
		r := w.upAs("me", slices.Concat(passwords, []string{"--far", "tun", "--become", become}, viaTelnet, []string{"10.77.0.0/16"})...)
		w.says(r.out, "ok link", "10.0.2.15/24")
		w.says(w.laptop("bodkin", "status"), "tun here, tun there")
		w.laptop("ping", "-c", "1", "-w", "10", "10.0.2.2")
		if owner := w.farHalfUID(); owner != 0 {
			t.Errorf("%s: the far half runs as user %d", become, owner)
		}
		w.down()
		w.gone(w.Gateway, gateway)
	}
	r := w.bodkin(through("up", "-d", "--become", "su", "--password", "root@home=@/home/me/password")...)
	if r.status != 21 {
		t.Errorf("su with a wrong password: exit status %d, want 21", r.status)
	}
	w.says(r.out, "bodkin: error: login: the host said", "su: Authentication failure", "bodkin: hint: ")
}

// farHalfUID is who the far half runs as.
func (w *world) farHalfUID() uint32 {
	w.t.Helper()
	all, err := w.Gateway.Processes()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args) > 1 && p.Args[1] == "far" {
			return p.UID
		}
	}
	w.t.Fatalf("there is no far half among %+v", all)
	return 0
}

// TestTelnetChatScript has a script in the language of chat(8) log in, through a menu
// that no built-in rule knows, with the password from a file of its own.
func TestTelnetChatScript(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	w.pair("home")
	const menu = `#!/bin/sh
stty -echo
while :; do
	printf '\nOPERATOR CONSOLE  1) mail  2) logout  3) the other thing\nyour wish? '
	read -r wish
	[ "$wish" = 3 ] && break
done
printf 'and the magic word is? '
read -r word
[ "$word" = "` + password + `" ] || { echo NO CARRIER; read -r bye; exit 1; }
stty echo
echo 'mind the gap'
exec su -s /bin/sh -l me
`
	if err := w.Gateway.WriteFile("/usr/local/bin/menu", []byte(menu), 0o755, "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Gateway.Telnetd(t.Context(), lab.TelnetdOptions{Program: []string{"/usr/local/bin/menu"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Firewall.TelnetProxy(lab.TelnetProxyOptions{Hosts: map[string]netip.Addr{"home": lab.Gateway4}}); err != nil {
		t.Fatal(err)
	}
	w.write(w.Laptop, "/home/me/menu.chat", `# what the operator types
ABORT 'NO CARRIER'
TIMEOUT 20
wish?--wish? 3
word\sis? @/home/me/password
gap '\c'
$ '\c'
`, "me")
	w.write(w.Laptop, "/home/me/wrong.chat", "ABORT 'NO CARRIER'\nwish? 3\nis? sesame\ngap '\\c'\n", "me")

	args := []string{"--via", "telnet://tn-gw", "--chat", "/home/me/menu.chat", "telnet://home"}
	r := w.bodkin(append([]string{"up", "-d", "-vv"}, args...)...)
	if r.status != 0 || strings.Contains(r.out, password) {
		t.Fatalf("exit status %d:\n%s", r.status, r.out)
	}
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://web.example/")
	w.down()

	r = w.bodkin("up", "-d", "--via", "telnet://tn-gw", "--chat", "/home/me/wrong.chat", "telnet://home")
	if r.status != 22 {
		t.Errorf("a script that is said no to: exit status %d, want 22", r.status)
	}
	w.says(r.out, "NO CARRIER", "bodkin: hint: run it again with -vv")
}

// TestShellOfAProgram has a program lead to a shell: nc, on pipes to a shell that is on
// none either, and on a terminal to one that is.
func TestShellOfAProgram(t *testing.T) {
	t.Parallel()
	w := closedWorld(t)
	w.pair("shell")
	if _, err := w.Gateway.Inetd(2001, "su", "-s", "/bin/sh", "-l", "me"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Gateway.Inetd(2002, "script", "-q", "-c", "su -s /bin/bash -l me", "/dev/null"); err != nil {
		t.Fatal(err)
	}
	for _, port := range []uint16{2001, 2002} {
		if _, err := (lab.Chaos{}).Listen(w.Firewall, port, netip.AddrPortFrom(lab.Gateway4, port)); err != nil {
			t.Fatal(err)
		}
	}
	before := w.snapshot()
	for _, program := range []string{"cmd:nc tn-gw 2001", "tty:sh -c 'stty raw -echo; exec nc tn-gw 2002'"} {
		r := w.bodkin("up", "-d", "--known-as", "shell", program)
		if r.status != 0 {
			t.Errorf("%s: exit status %d\n%s", program, r.status, r.out)
			continue
		}
		w.fullIP(2_000_000)
		w.down()
		w.asBefore(before, program)
		w.eventually("nc has ended", func() bool { return w.on(w.Laptop, "root", "pgrep", "-x", "nc").status != 0 })
	}
}

// TestTelnetToSlirp has nothing of bodkin's at the far side but the real slirp, which
// knows no encryption. It is refused but by a word, and then said.
func TestTelnetToSlirp(t *testing.T) {
	t.Parallel()
	w := telnetWorld(t, lab.TelnetProxyOptions{}, lab.TelnetdOptions{})
	if err := w.Gateway.InstallSlirp(); err != nil {
		t.Fatal(err)
	}
	r := w.bodkin(through("up", "-d", "--far", "slirp")...)
	if r.status != 2 {
		t.Errorf("without the word: exit status %d, want 2", r.status)
	}
	w.says(r.out, "goes unencrypted", "--insecure-accept-eavesdropping")
	r = w.upAs("me", through("--far", "slirp", "--insecure-accept-eavesdropping")...)
	w.says(r.out, "!! slirp knows no encryption")
	w.says(w.laptop("bodkin", "status"), "telnet://me@home by way of telnet://tn-gw, NOT encrypted", "slirp knows no encryption")
	w.safety(false, false)
	w.laptop("curl", "-sS", "-f", "-m", "10", "-o", "/dev/null", "http://only4.example/")
	if err := w.download(lab.Web4, 1_000_000); err != nil {
		t.Error(err)
	}
}
