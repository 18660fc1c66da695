package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/bodkin-net/bodkin/lab"
)

// scripted is all that a shell may ever read of us: one line, which its shell's place
// is taken by.
var scripted = regexp.MustCompile(`^ exec /bin/sh -c '[^']*' [0-9a-f]{32} "'" \.\n$`)

// A brink is a relay on the firewall, before tn-gw, for one connection, in which something happens when
// so many octets of the laptop's have passed; then it goes on as if nothing were.
type brink struct {
	listener net.Listener
	at       int64
	fall     func()
	done     sync.WaitGroup

	mu    sync.Mutex
	up    []byte // what passed from the laptop
	conns []net.Conn
}

// brink begins to relay. Close ends it.
func (w *world) brink(at int64, fall func()) *brink {
	w.t.Helper()
	l, err := w.Firewall.Listen("tcp", ":0")
	if err != nil {
		w.t.Fatal(err)
	}
	b := &brink{listener: l, at: at, fall: fall}
	b.done.Go(func() {
		near, err := l.Accept()
		if err != nil {
			return
		}
		b.hold(near)
		far, err := w.Firewall.Dial(context.Background(), "tcp", netip.AddrPortFrom(lab.FirewallInside4, lab.TelnetPort).String())
		if err != nil {
			return
		}
		b.hold(far)
		b.done.Go(func() {
			io.Copy(onlyWriter{near}, far)
			b.cut()
		})
		io.Copy(passing{b, far}, onlyReader{near})
		b.cut()
	})
	return b
}

// onlyReader and onlyWriter keep io.Copy from moving octets inside the kernel.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

func (b *brink) hold(c net.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns = append(b.conns, c)
}

// cut ends both connections.
func (b *brink) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.Close()
	}
}

func (b *brink) Close() {
	b.listener.Close()
	b.cut()
	b.done.Wait()
}

// passed is what came from the laptop so far.
func (b *brink) passed() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.up)
}

// passing is the way on from a brink, which is passed in the middle of a Write too.
type passing struct {
	*brink
	to io.Writer
}

func (p passing) Write(octets []byte) (int, error) {
	p.mu.Lock()
	before := int64(len(p.up))
	p.up = append(p.up, octets...)
	p.mu.Unlock()
	if n := p.at - before; p.at > 0 && n > 0 && n <= int64(len(octets)) {
		if _, err := p.to.Write(octets[:n]); err != nil {
			return 0, err
		}
		p.fall()
		m, err := p.to.Write(octets[n:])
		return int(n) + m, err
	}
	return p.to.Write(octets)
}

// way is the way by that relay.
func (b *brink) way() []string {
	port := b.listener.Addr().(*net.TCPAddr).Port
	return []string{"--once", "--via", fmt.Sprintf("telnet://tn-gw:%d", port), "--password", "me@home=@/home/me/password", "telnet://me@home"}
}

// TestTelnetShellReadsOneLine: what the login shell reads is our one line and no octet
// more, when all goes well, and when the near half, the far half, the login or the
// connection dies: at its prompts, while the far half is sent, while the line is
// measured, in the TLS handshake, in the first packets, and in the middle of a large
// transfer. Each time the near half says what happened and the laptop is as it was, and
// on the gateway nobody stays.
func TestTelnetShellReadsOneLine(t *testing.T) {
	for _, victim := range []string{"near half", "far half", "login", "connection"} {
		t.Run(victim, func(t *testing.T) {
			t.Parallel()
			w := newTracedWorld(t)
			for _, m := range momentsOf(w.cleanRun()) {
				if victim == "far half" && !m.shell {
					continue // nobody is there yet
				}
				t.Run(m.name, func(t *testing.T) {
					w := w.again(t)
					if m.fresh {
						w.remove(w.Gateway, "/home/me/.cache")
					}
					w.killed(victim, m)
				})
			}
		})
	}
}

// A moment is one at which somebody dies: when so many octets have gone from the laptop.
type moment struct {
	name  string
	at    int64
	shell bool // there is a shell by then
	typed bool // it has read the line
	fresh bool // the far half has to be sent
	bulk  bool // meanwhile a large file goes up
}

func momentsOf(at milestones) []moment {
	moments := []moment{
		{name: "the password is half typed", at: at.name + 6},
		{name: "the line is half typed", at: at.line + 100, shell: true},
		{name: "the line is typed but for its end", at: at.lineEnd, shell: true},
		{name: "the script follows", at: at.lineEnd + 1000, shell: true, typed: true},
		{name: "a large transfer", at: at.up + 500_000, shell: true, typed: true, bulk: true},
	}
	for i := range int64(6) {
		moments = append(moments, moment{
			name: fmt.Sprintf("step %d of 6 from the shell to the first packets", i+1), at: at.started + 1 + i*(at.up-at.started)/6, shell: true, typed: true,
		})
	}
	return append(moments, // last: no far half is there from now on
		moment{name: "the far half is sent", at: at.lineEnd + 40_001, shell: true, typed: true, fresh: true},
		moment{name: "more of the far half is sent", at: at.lineEnd + 3_000_003, shell: true, typed: true, fresh: true})
}

// A tracedWorld is one whose gateway has a login shell that writes down what it reads.
type tracedWorld struct {
	*world
	laptop0  string   // the laptop's state without a tunnel
	gateway0 []string // the gateway's processes without a login
	line     string   // what the shell reads
	seen     int      // traces that earlier tests have looked at
}

func newTracedWorld(t *testing.T) *tracedWorld {
	t.Helper()
	w := telnetWorld(t, lab.TelnetProxyOptions{Echo: true}, lab.TelnetdOptions{})
	shell, err := w.Gateway.TraceShell("/bin/bash")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.SetShell("me", shell); err != nil {
		t.Fatal(err)
	}
	w.pair("home")
	tw := &tracedWorld{world: w, laptop0: w.snapshot()}
	tw.gateway0 = tw.onGateway()
	return tw
}

// again is the same world for a subtest.
func (w *tracedWorld) again(t *testing.T) *tracedWorld {
	inner := *w
	inner.world = w.in(t)
	inner.seen = len(inner.traces())
	return &inner
}

func (w *tracedWorld) traces() []string {
	w.t.Helper()
	traces, err := w.Gateway.Traces()
	if err != nil {
		w.t.Fatal(err)
	}
	return traces
}

// onGateway lists the gateway's processes.
func (w *tracedWorld) onGateway() (lines []string) {
	w.t.Helper()
	all, err := w.Gateway.Processes()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range all {
		if len(p.Args) > 0 {
			lines = append(lines, strings.Join(p.Args, " "))
		}
	}
	slices.Sort(lines)
	return lines
}

// milestones are how many octets had gone from the laptop at some moments.
type milestones struct{ name, line, lineEnd, started, up int64 }

// cleanRun brings a tunnel up and down twice, the second time with the far half in its
// place, and looks at what the shell read. It returns the milestones of the second.
func (w *tracedWorld) cleanRun() (at milestones) {
	w.t.Helper()
	for range 2 {
		b := w.brink(0, nil)
		w.up(b.way()...)
		octets := b.passed()
		w.down()
		b.Close()
		at.up = int64(len(octets))
		find := func(from int64, text string) int64 {
			n := bytes.Index(octets[from:], []byte(text))
			if n < 0 {
				w.t.Fatalf("%q did not pass after octet %d: %q", text, from, octets[from:min(from+400, at.up)])
			}
			return from + int64(n)
		}
		at.name = find(find(0, "c home 23"), "me\r"+password)
		at.line = find(at.name, " exec /bin/sh -c '")
		at.lineEnd = find(at.line, "\r")
		at.started = find(at.lineEnd, "\r:\r") + 3
	}
	traces := w.traces()
	if len(traces) != 2 {
		w.t.Fatalf("there are %d traces of two logins: %q", len(traces), traces)
	}
	for _, trace := range traces {
		if line := strings.ReplaceAll(trace, "\r", "\n"); !scripted.MatchString(line) {
			w.t.Fatalf("the shell read %q", trace)
		}
		w.line = trace
	}
	w.after("up, down")
	return at
}

// after wants all to be as it was, on both machines.
func (w *tracedWorld) after(what string) {
	w.t.Helper()
	w.eventually("nobody is left on the laptop", func() bool { return len(w.processes()) == 0 })
	w.asBefore(w.laptop0, what)
	w.eventually("nobody is left on the gateway but "+strings.Join(w.gateway0, ", "), func() bool {
		return slices.Equal(w.onGateway(), w.gateway0)
	})
}

// killed brings a tunnel up and has the victim die at a moment.
func (w *tracedWorld) killed(victim string, m moment) {
	w.t.Helper()
	var near *lab.Cmd
	var b *brink
	fell := make(chan struct{})
	b = w.brink(m.at, func() {
		defer close(fell)
		switch victim {
		case "near half":
			syscall.Kill(near.Process.Pid, syscall.SIGKILL)
		case "connection":
			b.cut()
		default:
			w.kill(victim)
		}
	})
	defer b.Close()
	var said bytes.Buffer
	near = w.Laptop.Command(w.t.Context(), "bodkin", append([]string{"up"}, b.way()...)...).As("me")
	near.Stdout, near.Stderr = &said, &said
	if err := near.Start(); err != nil {
		w.t.Fatal(err)
	}
	if m.bulk {
		w.eventually("the tunnel carries packets", func() bool {
			return w.on(w.Laptop, "me", "curl", "-sS", "-f", "-m", "2", "-o", "/dev/null", url(lab.Web4, "/")).status == 0
		})
		pumping := w.Laptop.Command(w.t.Context(), "sh", "-c", "head -c 300000000 /dev/zero | curl -sS -m 30 -T - -X POST "+url(lab.Web4, "/upload")).As("me")
		if err := pumping.Start(); err != nil {
			w.t.Fatal(err)
		}
		defer pumping.Wait()
		defer pumping.Process.Kill()
	}
	<-fell
	if victim == "near half" {
		near.Wait()
	} else {
		w.nearEnds(near, &said)
	}
	w.after("the death of the " + victim)
	whole := ""
	for _, trace := range w.traces()[w.seen:] {
		whole += strings.ReplaceAll(trace, "\r", "\n")
	}
	if !scripted.MatchString(whole) && (m.typed || !w.begins(whole)) {
		w.t.Errorf("the shell read %q", whole)
	}
	if w.t.Failed() {
		w.t.Logf("the near half said:\n%s", said.String())
	}
}

// begins reports whether text is the beginning of the scripted line, up to any octet
// before its end.
func (w *tracedWorld) begins(text string) bool {
	script, _, _ := strings.Cut(w.line, "' ") // after which it is another each time
	return strings.HasPrefix(script, text) || strings.HasPrefix(text, script) && !strings.Contains(text, "\n")
}

// kill ends a part of the login on the gateway.
func (w *tracedWorld) kill(victim string) {
	all, err := w.Gateway.Processes()
	if err != nil {
		w.t.Error(err)
		return
	}
	killed := 0
	for _, p := range all {
		name := ""
		if len(p.Args) > 0 {
			name = filepath.Base(p.Args[0])
		}
		if victim == "login" && name == "login" || victim == "far half" && p.UID == lab.GatewayUID && name != "login" && name != "strace" ||
			victim == "far half, as root" && len(p.Args) > 1 && p.Args[1] == "far" {
			killed++
			syscall.Kill(p.PID, syscall.SIGKILL)
		}
	}
	if killed == 0 {
		w.t.Errorf("no %s is there to be killed: %q", victim, w.onGateway())
	}
}

// nearEnds wants the near half to end by itself, with a reason.
func (w *tracedWorld) nearEnds(near *lab.Cmd, said *bytes.Buffer) {
	w.t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- near.Wait() }()
	select {
	case <-ended:
	case <-within(w.t, patience).Done():
		near.Process.Kill()
		<-ended
		w.t.Errorf("the near half goes on")
		return
	}
	status, text := near.ProcessState.ExitCode(), said.String()
	expected := []int{14, 23} // 14: in the tunnel's own first words
	switch {
	case strings.Contains(text, "ok link"):
		expected = []int{19}
	case strings.Contains(text, "could not store it whole"): // its terminal ended before its words did
		expected = []int{13}
	}
	if !slices.Contains(expected, status) || !strings.Contains(text, "bodkin: error: ") || !strings.Contains(text, "bodkin: hint: ") {
		w.t.Errorf("the near half ended with exit status %d, want one of %v, an error and a hint", status, expected)
	}
}

// recordingShell writes down each line that it reads, and runs it: su gives nobody root
// under TraceShell's eyes.
const recordingShell = `#!/bin/sh
while printf 'ready$ ' && IFS= read -r line; do
	printf '%s\n' "$line" >>~/typed
	eval "$line"
done
printf '%s' "$line" >>~/typed
`

// TestTelnetSuReadsOneLineEach: with --become su two shells read, one line each.
func TestTelnetSuReadsOneLineEach(t *testing.T) {
	t.Parallel()
	w := newTracedWorld(t)
	if err := w.Gateway.SetPassword(t.Context(), "root", rootPassword); err != nil {
		t.Fatal(err)
	}
	if err := w.Gateway.WriteFile("/usr/local/bin/recording-shell", []byte(recordingShell), 0o755, "root"); err != nil {
		t.Fatal(err)
	}
	for _, account := range []string{"me", "root"} {
		if err := w.Gateway.SetShell(account, "/usr/local/bin/recording-shell"); err != nil {
			t.Fatal(err)
		}
	}
	w.write(w.Laptop, "/home/me/root-password", rootPassword+"\n", "me")
	w.up(through("--once", "--become", "su", "--insecure-accept-eavesdropping", "--password", "root@home=@/home/me/root-password")...)
	w.kill("far half, as root")
	w.eventually("the tunnel has ended", func() bool { return len(w.processes()) == 0 })
	w.after("the far half's death")
	for path, want := range map[string]*regexp.Regexp{
		"/home/me/typed": regexp.MustCompile(`^echo bodkin-''[A-Z0-9]{16}; exec su\n$`),
		"/root/typed":    scripted,
	} {
		if text, err := w.Gateway.ReadFile(path); err != nil || !want.Match(text) {
			t.Errorf("%s: the shell read %q, %v", path, text, err)
		}
	}
}
