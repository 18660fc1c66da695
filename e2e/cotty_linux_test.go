package e2e_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// everyOctet is what a terminal must not touch: all values, and what line editing,
// flow control, signals and ssh's escape character would act upon.
func everyOctet() []byte {
	var block []byte
	for v := range 256 {
		block = append(block, byte(v))
	}
	block = append(block, "\x13\x03\x04\x1a\x1c\x7f\xff\xff\r~.\n~.\r\n~?"...)
	all := make([]byte, 0, 1<<20)
	for len(all) < 1<<20-len(block) {
		all = append(all, block...)
	}
	return all
}

// TestCottyThroughSSH: a program here and one at the far end of a login, each on a
// terminal, hear each other's every octet; and what ends the login ends the session,
// with ssh's own status.
func TestCottyThroughSSH(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Laptop.InstallAs(program, "cotty"); err != nil {
		t.Fatal(err)
	}
	if err := w.Laptop.WriteFile("/home/me/octets", everyOctet(), 0o600, "me"); err != nil {
		t.Fatal(err)
	}
	// It waits until the far terminal is raw, then sends the file and compares what
	// comes back.
	near := `dd bs=1 count=1 of=/dev/null 2>/dev/null || exit 4; exec 3<&0
		cat octets & head -c $(wc -c <octets) <&3 | cmp -s - octets || exit 5; wait`
	login := []string{"ssh", "-tt", "-e", "none", "-o", "BatchMode=yes", "gw"}
	joined := func(near, far string) result {
		args := append([]string{"--stderr", "pass", "--", "sh", "-c", near, "--"}, login...)
		return w.on(w.Laptop, "me", "cotty", append(args, far)...)
	}
	if r := joined(near, "stty raw -echo && printf R && exec cat"); r.status != 0 || !strings.Contains(r.out, "bodkin: sh ended first\n") {
		t.Errorf("every octet: exit status %d\n%s", r.status, r.out)
	}
	if r := joined("exec sleep 1000", "exit 7"); r.status != 7 || !strings.Contains(r.out, "bodkin: ssh ended first: exit status 7\n") {
		t.Errorf("the far command ends: exit status %d\n%s", r.status, r.out)
	}
	if r := joined("exec sleep 1000", "kill -9 $PPID"); r.status != 255 || !strings.Contains(r.out, "ssh ended first") {
		t.Errorf("the login dies: exit status %d\n%s", r.status, r.out)
	}
	w.eventually("nothing is left", func() bool {
		ps, err := w.Laptop.Processes()
		return err == nil && len(ps) == 0
	})
}

// TestCottyDetached: in the background, until it is told to end; then both sides are
// told by a hang-up, and the far one through ssh.
func TestCottyDetached(t *testing.T) {
	w := newWorld(t, lab.Options{})
	if err := w.Laptop.InstallAs(program, "cotty"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.laptop("cotty", "-d", "--pid-file", "pid", "--log", "log", "--",
		"sh", "-c", "read word; echo $word >heard; exec sleep 1000", "--",
		"ssh", "-tt", "-e", "none", "-o", "BatchMode=yes", "gw", `trap "echo hangup >told; exit" HUP; stty raw -echo; echo hello; while :; do sleep 0.1; done`)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it went to the background after %v", took)
	}
	w.eventually("the near program has heard the far one", func() bool {
		word, err := w.Laptop.ReadFile("/home/me/heard")
		return err == nil && string(word) == "hello\n"
	})
	w.laptop("sh", "-c", "kill $(cat pid)")
	w.eventually("nothing is left here", func() bool {
		ps, err := w.Laptop.Processes()
		return err == nil && len(ps) == 0
	})
	w.eventually("the far program was told", func() bool {
		word, err := w.Gateway.ReadFile("/home/me/told")
		return err == nil && string(word) == "hangup\n"
	})
	if log, err := w.Laptop.ReadFile("/home/me/log"); err != nil || !strings.Contains(string(log), " bodkin: cotty ended: ") {
		t.Errorf("the log: %q, %v", log, err)
	}
	if _, err := w.Laptop.ReadFile("/home/me/pid"); !os.IsNotExist(err) {
		t.Errorf("the pid file: %v", err)
	}
}
