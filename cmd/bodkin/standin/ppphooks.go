package standin

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/config/pppd"
)

// pppDir is where pppd's scripts are.
const pppDir = "/etc/ppp"

// wantsScripts reports whether the scripts are to run. A NAT changes nothing of the
// machine that they would have to know.
func wantsScripts(o *pppd.Options) bool {
	return o.Host.Scripts == pppd.On || o.Host.Scripts == pppd.AsIs && !o.Host.NAT
}

// scriptsOwner says who the scripts run as, if there are any and it is not root, as
// with pppd: what reads the network here has no privilege to give them.
func scriptsOwner(o *pppd.Options) string {
	if !wantsScripts(o) || os.Geteuid() == 0 {
		return ""
	}
	for _, name := range []string{"ip-pre-up", "ip-up", "ip-down", "ipv6-up", "ipv6-down", "auth-up", "auth-down"} {
		if isExecutable(filepath.Join(pppDir, name)) {
			return "the scripts in " + pppDir + " run as " + ourLogin() + ", not as root"
		}
	}
	return ""
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o111 != 0
}

// pppFacts are what the scripts of one link are told.
type pppFacts struct {
	device, line, speed string
	options             *pppd.Life
	local, remote       netip.Addr // of IPv4
	local6, remote6     netip.Addr // link-local
	dns                 []netip.Addr
	peer                string // the name that it proved
	began               time.Time
	sent, received      uint64 // octets of the line
}

// environment is what pppd gives its scripts, and nothing else; down says that the
// link is over. USEPEERDNS is left out: the name servers are in use already, and a
// script that acts on it would put them into resolv.conf once more.
func (f *pppFacts) environment(down bool) []string {
	env := []string{
		"DEVICE=" + f.line, "IFNAME=" + f.device, "SPEED=" + f.speed,
		"ORIG_UID=" + strconv.Itoa(os.Getuid()), "PPPLOGNAME=" + ourLogin(), "PPPD_PID=" + strconv.Itoa(os.Getpid()),
	}
	add := func(name, value string) {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	address := func(name string, a netip.Addr) {
		if a.IsValid() {
			add(name, a.String())
		}
	}
	address("IPLOCAL", f.local)
	address("IPREMOTE", f.remote)
	address("LLLOCAL", f.local6)
	address("LLREMOTE", f.remote6)
	add("PEERNAME", f.peer)
	add("LINKNAME", f.options.LinkName)
	add("CALL_FILE", f.options.CallFile)
	for i, a := range f.dns {
		address("DNS"+strconv.Itoa(i+1), a)
	}
	if down {
		add("CONNECT_TIME", strconv.Itoa(int(time.Since(f.began).Seconds())))
		add("BYTES_SENT", strconv.FormatUint(f.sent, 10))
		add("BYTES_RCVD", strconv.FormatUint(f.received, 10))
	}
	env = append(env, f.options.Set...)
	return slices.DeleteFunc(env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains(f.options.Unset, name)
	})
}

func ourLogin() string {
	u, err := user.Current()
	if err != nil {
		return strconv.Itoa(os.Getuid())
	}
	return u.Username
}

// networkArguments are those of ip-up and its kin.
func (f *pppFacts) networkArguments(local, remote netip.Addr) []string {
	text := func(a netip.Addr) string {
		if !a.IsValid() {
			return ""
		}
		return a.String()
	}
	return []string{f.device, f.line, f.speed, text(local), text(remote), f.options.IPParam}
}

// authArguments are those of auth-up and auth-down.
func (f *pppFacts) authArguments() []string {
	return []string{f.device, f.peer, ourLogin(), f.line, f.speed}
}

// A hook is a pair of scripts, one for each time something comes up and one for
// each time it goes down again. They run one after the other and are not waited
// for. Where it comes and goes faster than they run, turns are left out in pairs, as
// with pppd: so there is never more than one run and one wish.
type hook struct {
	run func(script string, args, env []string)

	mu       sync.Mutex
	up       bool // what the scripts have been told
	running  bool
	wanted   hookState
	finished sync.Cond
}

// A hookState is what a hook is to tell next.
type hookState struct {
	up        bool
	script    string
	args, env []string
}

func newHook(run func(script string, args, env []string)) *hook {
	h := &hook{run: run}
	h.finished.L = &h.mu
	return h
}

// tell has the scripts told of a state.
func (h *hook) tell(s hookState) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wanted = s
	if h.running || h.wanted.up == h.up {
		return
	}
	h.running = true
	go h.catchUp()
}

func (h *hook) catchUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.wanted.up != h.up {
		s := h.wanted
		h.mu.Unlock()
		h.run(s.script, s.args, s.env)
		h.mu.Lock()
		h.up = s.up
	}
	h.running = false
	h.finished.Broadcast()
}

// wait waits until the scripts have been told all.
func (h *hook) wait() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.running {
		h.finished.Wait()
	}
}

// pppScripts runs the scripts of a link.
type pppScripts struct {
	off           bool
	log           *logger
	ctx           context.Context // ends all scripts
	kill          context.CancelFunc
	ip, ip6, auth *hook
}

func newPPPScripts(off bool, log *logger) *pppScripts {
	s := &pppScripts{off: off, log: log}
	s.ctx, s.kill = context.WithCancel(context.Background())
	s.ip, s.ip6, s.auth = newHook(s.run), newHook(s.run), newHook(s.run)
	return s
}

// run runs one script, if it is there, with nothing to read and nowhere to write.
func (s *pppScripts) run(script string, args, env []string) {
	path := filepath.Join(pppDir, script)
	if s.off || !isExecutable(path) {
		return
	}
	cmd := exec.CommandContext(s.ctx, path, args...)
	cmd.Env, cmd.Dir = env, "/"
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = scriptPatience
	s.log.debugf("Script %s started", path)
	if err := cmd.Run(); err != nil {
		s.log.printf("Script %s: %v", path, err)
	}
}

// tell tells one hook, up or down.
func (s *pppScripts) tell(h *hook, name string, up bool, args []string, f *pppFacts) {
	way := "-down"
	if up {
		way = "-up"
	}
	h.tell(hookState{up: up, script: name + way, args: args, env: f.environment(!up)})
}

// wait waits for the scripts of a link that is over, for no longer than patience,
// 0 for ever, and then ends them.
func (s *pppScripts) wait(patience time.Duration) {
	if patience > 0 {
		late := time.AfterFunc(patience, s.kill)
		defer late.Stop()
	}
	for _, h := range []*hook{s.ip, s.ip6, s.auth} {
		h.wait()
	}
}

// leavePID leaves our process id where pppd does for a link with a name, and returns
// what takes it away again.
func leavePID(name string) (remove func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	path := "/run/ppp-" + name + ".pid"
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return func() {}, fmt.Errorf("linkname: %w", err)
	}
	defer f.Close()
	fmt.Fprintln(f, os.Getpid())
	return func() { os.Remove(path) }, nil
}
