package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
)

// maxSettings bounds what ssh -G may print: its real output has 6 KiB.
const maxSettings = 1 << 20

// fastCipher carries twice what OpenSSH's default does where both CPUs have AES
// instructions. Only ours is known before the login: a far CPU without them does
// this cipher in software, slower than the default but correct, and its user can
// choose Ciphers in the ssh config, which is left alone.
const fastCipher = "aes128-gcm@openssh.com"

// settings are what the user's ssh config and options come to for one host: the
// lines of ssh -G, values by keyword in lower case, several in their order.
type settings map[string][]string

// readSettings asks the ssh program. It connects nowhere, but may run commands
// that the user's config names in Match exec, as ssh itself does.
func (c *Config) readSettings(ctx context.Context, options ...string) (settings, error) {
	var words carrier.Words
	args := append([]string{c.Program[0]}, options...)
	p, err := command.Start(command.Config{Args: append(args, "-G", "--", c.Target.Host), Env: c.Env, User: c.User, Stderr: &words})
	if err != nil {
		return nil, startError(c.Program[0], err)
	}
	stop := context.AfterFunc(ctx, func() { p.Close() })
	defer p.Close()
	out, err := io.ReadAll(io.LimitReader(p, maxSettings))
	if !stop() && ctx.Err() != nil {
		return nil, fmt.Errorf("ssh: reading the ssh config: %w", context.Cause(ctx))
	}
	if err != nil {
		err = c.diagnose(err, words.Lines(), nil)
		var ended *command.ExitError
		killed := errors.As(err, &ended) && ended.Signal != 0 // which says nothing of the program
		if e := new(Error); errors.As(err, &e) && e.Kind == CommandEnded && !killed {
			err = refusal(BadConfig, fmt.Sprintf("%s -G does not do what OpenSSH's does: %v", c.Program[0], e.Err), "name an OpenSSH program, 7.3 or newer, with -e", err)
		}
		return nil, err
	}
	return parseSettings(string(out)), nil
}

// startError is the error for an ssh program that cannot be run.
func startError(program string, err error) error {
	if errors.Is(err, exec.ErrNotFound) {
		return refusal(NoProgram, fmt.Sprintf("there is no program %q", program), "install openssh-client, or name another with -e /path/to/ssh", err)
	}
	return refusal(NoProgram, err.Error(), "name another program with -e /path/to/ssh", err)
}

func parseSettings(out string) settings {
	s := settings{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key != "" {
			s[strings.ToLower(key)] = append(s[strings.ToLower(key)], strings.TrimSpace(value))
		}
	}
	return s
}

// get returns the first value of a keyword; empty if it has none, or "none".
func (s settings) get(key string) string {
	if v := s[key]; len(v) > 0 && v[0] != "none" {
		return v[0]
	}
	return ""
}

// knows reports whether the ssh program has the keyword at all.
func (s settings) knows(key string) bool { return len(s[key]) > 0 }

// direct reports whether ssh would do nothing else but connect a TCP socket to the
// host's address, so that a socket of ours can take its place. A local address or
// a name that is to be made canonical are left to ssh.
func (s settings) direct() bool {
	canonical := s.get("canonicalizehostname")
	return s.get("proxycommand") == "" && s.get("proxyjump") == "" &&
		s.get("bindaddress") == "" && s.get("bindinterface") == "" &&
		(canonical == "" || canonical == "false" || canonical == "no") && s.get("hostname") != ""
}

func (s settings) port() uint16 {
	n, err := strconv.ParseUint(s.get("port"), 10, 16)
	if err != nil || n == 0 {
		return 22
	}
	return uint16(n)
}

// connectTimeout is how long one address may take: the user's ConnectTimeout, or
// ten seconds, time for three SYNs.
func (s settings) connectTimeout() time.Duration {
	if n, err := strconv.ParseUint(s.get("connecttimeout"), 10, 16); err == nil && n > 0 {
		return time.Duration(n) * time.Second
	}
	return 10 * time.Second
}

// network returns which addresses of the host are wanted: "ip", "ip4", "ip6".
func (s settings) network() string {
	switch s.get("addressfamily") {
	case "inet":
		return "ip4"
	case "inet6":
		return "ip6"
	}
	return "ip"
}

// preferFast returns the list of ciphers with the fast one first, or an empty
// string if the list is to stay: because the user chose it (it is not the default
// list), because the fast one is first or absent, or because our CPU has no AES.
func preferFast(chosen, standard string, aes bool) string {
	list := strings.Split(chosen, ",")
	if !aes || chosen != standard || list[0] == fastCipher || !slices.Contains(list, fastCipher) {
		return ""
	}
	list = slices.DeleteFunc(list, func(c string) bool { return c == fastCipher })
	return fastCipher + "," + strings.Join(list, ",")
}

// hasAES reports whether our CPU has instructions for AES and for GCM.
func hasAES() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ ||
		cpu.ARM64.HasAES && cpu.ARM64.HasPMULL ||
		cpu.S390X.HasAES && cpu.S390X.HasAESGCM
}
