package e2e_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// shapes are those of the laptop's /etc/resolv.conf.
var shapes = []struct {
	name  string
	shape lab.ResolvConf
}{
	{"file", lab.ResolvFile},
	{"symlink", lab.ResolvSymlink},
	{"dangling symlink", lab.ResolvDangling},
	{"bind mount", lab.ResolvBind},
	{"missing", lab.ResolvMissing},
}

// TestMachineAsItWas compares the laptop's whole network state, octet by octet,
// before and after: in good order, and after everything was killed.
func TestMachineAsItWas(t *testing.T) {
	for _, tt := range shapes {
		t.Run("resolv.conf a "+tt.name, func(t *testing.T) {
			w := newWorld(t, lab.Options{ResolvConf: tt.shape})
			before := w.snapshot()

			w.up("me@gw")
			w.changed(before)
			w.laptop("curl", "-sS", "-f", "-m", "10", "http://web.example/") // by name: DNS is the tunnel's
			w.down()
			w.asBefore(before, "up, down")

			w.up("me@gw")
			w.killAll()
			w.changed(before)
			w.laptop("sudo", "bodkin", "clean")
			w.asBefore(before, "up, kill -9 of every process, clean")
		})
	}
	for _, tt := range []struct {
		name   string
		filter lab.RPFilter
	}{{"off", lab.RPOff}, {"strict", lab.RPStrict}} {
		t.Run("reverse path filter "+tt.name, func(t *testing.T) {
			w := newWorld(t, lab.Options{RPFilter: tt.filter})
			before := w.snapshot()
			w.up("me@gw")
			for _, f := range families {
				w.laptop("curl", "-sS", "-f", f.flag, "-m", "10", "-o", "/dev/null", "http://web.example/")
			}
			w.down()
			w.asBefore(before, "up, down")
		})
	}
}

// TestNextUpCleansUp kills everything and starts again, without clean.
func TestNextUpCleansUp(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	w.up("me@gw")
	w.killAll()
	w.up("me@gw")
	w.laptop("curl", "-sS", "-f", "-m", "10", "http://web.example/")
	w.down()
	w.asBefore(before, "up, kill -9, up, down")
}

// TestInterrupt is Ctrl-C in the terminal where bodkin up runs.
func TestInterrupt(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	w.up("me@gw") // the far half is there from now on
	w.down()

	cmd := w.Laptop.Command(t.Context(), "bodkin", "up", "me@gw").As("me")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.eventually("packets pass", func() bool {
		return w.on(w.Laptop, "me", "curl", "-sS", "-f", "-m", "1", "http://web.example/").status == 0
	})
	// The terminal sends SIGINT to everything in the foreground, ssh and sudo too.
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("after Ctrl-C bodkin ended with %v:\n%s", err, out.String())
		}
	case <-time.After(patience):
		t.Fatalf("Ctrl-C did not end bodkin")
	}
	w.asBefore(before, "Ctrl-C")
	w.noProcesses()
}

// TestInterruptOnTheWay is Ctrl-C before the tunnel is up: here, while the server
// takes its time.
func TestInterruptOnTheWay(t *testing.T) {
	w := newWorld(t, lab.Options{AllowTCP: []uint16{2222}})
	silent, err := w.Gateway.Listen("tcp", ":2222") // takes the connection and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	before := w.snapshot()

	cmd := w.Laptop.Command(t.Context(), "bodkin", "up", "me@gw:2222").As("me")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := silent.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Wait(); err == nil {
		t.Error("a tunnel that never came up ended with exit status 0")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Ctrl-C took %v", took)
	}
	w.asBefore(before, "Ctrl-C on the way up")
	w.noProcesses()
}

// TestOneOfTwoKilled kills the near half, then the helper, each alone: what is
// left sees to it that the machine is as it was.
func TestOneOfTwoKilled(t *testing.T) {
	for _, victim := range []string{"near half", "helper"} {
		t.Run(victim, func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			before := w.snapshot()
			w.up("me@gw")
			killed := 0
			for _, p := range w.processes() {
				helper := slices.Contains(p.Args, "host-helper")
				if filepath.Base(p.Args[0]) == "bodkin" && helper == (victim == "helper") {
					killed++
					if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
						t.Fatal(err)
					}
				}
			}
			if killed == 0 {
				t.Fatalf("no %s among %+v", victim, w.processes())
			}
			if victim == "helper" {
				// Nobody with the privilege is left; nothing may leak meanwhile.
				w.clean("the helper is dead", w.probe)
				w.bodkin("down")
				w.laptop("bodkin", "clean")
			}
			w.eventually("all have ended", func() bool { return len(w.processes()) == 0 })
			w.asBefore(before, "the death of the "+victim)
		})
	}
}

// TestPlanChangesNothing prints what up would do.
func TestPlanChangesNothing(t *testing.T) {
	w := newWorld(t, lab.Options{})
	before := w.snapshot()
	out := w.laptop("bodkin", "up", "--plan", "me@gw")
	w.asBefore(before, "up --plan")
	w.says(out, "bodkin0", "unreachable", "resolv.conf")
	w.noProcesses()
}

// TestStrangersEditSurvives changes resolv.conf by hand while the tunnel is up:
// down leaves that alone, and says so.
func TestStrangersEditSurvives(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.up("me@gw")
	const edited = "nameserver 192.0.2.77\n"
	if err := w.Laptop.WriteFile("/etc/resolv.conf", []byte(edited), 0o644, "root"); err != nil {
		t.Fatal(err)
	}
	r := w.bodkin("down")
	if r.status != 0 {
		t.Errorf("down exits %d", r.status)
	}
	w.says(r.out, "resolv.conf", "but for what others changed")
	got, err := w.Laptop.ReadFile("/etc/resolv.conf")
	if err != nil || string(got) != edited {
		t.Errorf("the user's resolv.conf became %q, %v", got, err)
	}
}

func (w *world) snapshot() string {
	w.t.Helper()
	text, err := w.Laptop.Snapshot()
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

func (w *world) asBefore(before, what string) {
	w.t.Helper()
	if diff := lab.Difference(before, w.snapshot()); len(diff) > 0 {
		w.t.Errorf("after %s the laptop is not as it was:\n%s", what, strings.Join(diff, "\n"))
	}
}

// changed fails the test if the snapshot sees nothing of a tunnel, for then it
// would see nothing left behind either.
func (w *world) changed(before string) {
	w.t.Helper()
	if before == w.snapshot() {
		w.t.Fatal("a tunnel is up, and the laptop's snapshot is the same")
	}
}

// processes are those of a tunnel on the laptop, by the names of their programs.
func (w *world) processes() []lab.Process {
	w.t.Helper()
	all, err := w.Laptop.Processes()
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(p lab.Process) bool {
		return len(p.Args) == 0 || !slices.Contains([]string{"bodkin", "ssh", "sudo"}, filepath.Base(p.Args[0]))
	})
}

// killAll kills every process of the tunnel with SIGKILL. It stops all of them
// first: else the helper might undo everything between the first kill and its own.
func (w *world) killAll() {
	w.t.Helper()
	all := w.processes()
	if len(all) == 0 {
		w.t.Fatal("a tunnel is up, and no process of it is seen")
	}
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		for _, p := range all {
			if err := syscall.Kill(p.PID, sig); err != nil && err != syscall.ESRCH {
				w.t.Fatal(os.NewSyscallError("kill", err))
			}
		}
	}
	w.eventually("the killed are gone, and their device", func() bool {
		_, err := w.Laptop.Netlink().LinkByName("bodkin0")
		return len(w.processes()) == 0 && err != nil
	})
}

// noProcesses wants all of a tunnel that is down to be gone. The last word of one that
// ends comes a moment before its exit.
func (w *world) noProcesses() {
	w.t.Helper()
	left := w.processes()
	for end := time.Now().Add(2 * time.Second); len(left) > 0 && time.Now().Before(end); left = w.processes() {
		time.Sleep(10 * time.Millisecond)
	}
	for _, p := range left {
		w.t.Errorf("still there: %q", p.Args)
	}
}

// eventually waits until something is so.
func (w *world) eventually(what string, so func() bool) {
	w.t.Helper()
	limit := time.Now().Add(patience)
	for !so() {
		if time.Now().After(limit) {
			w.t.Fatalf("after %v it is still not so that %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}
