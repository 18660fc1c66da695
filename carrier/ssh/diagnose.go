package ssh

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/carrier/command"
)

// A Kind is what ssh failed at.
type Kind string

// The kinds of failure.
const (
	NoProgram         Kind = "no ssh program"
	BadConfig         Kind = "bad ssh config"
	NameNotFound      Kind = "name not found"
	ConnectionRefused Kind = "connection refused"
	TimedOut          Kind = "timed out"
	NoRoute           Kind = "no route"
	HostKeyChanged    Kind = "host key changed"
	HostKeyUnknown    Kind = "host key unknown"
	PermissionDenied  Kind = "permission denied"
	NoCommonAlgorithm Kind = "no common algorithm"
	NoTerminal        Kind = "no terminal there"
	ServerGone        Kind = "server gone"
	Closed            Kind = "connection closed"
	NotForwarded      Kind = "forwarding refused"
	CommandEnded      Kind = "remote command ended"
	Other             Kind = "other"
)

// An Error says what ssh failed at.
type Error struct {
	Kind   Kind
	Reason string // printable, one line
	Hint   string // the next thing to try; may be empty
	Err    error  // the cause below; may be nil
}

func (e *Error) Error() string { return "ssh: " + e.Reason }
func (e *Error) Unwrap() error { return e.Err }

// refusal returns an Error that dialling again cannot help.
func refusal(kind Kind, reason, hint string, err error) error {
	e := &Error{Kind: kind, Reason: reason, Hint: hint, Err: err}
	return &carrier.RefusedError{Layer: "ssh", Reason: reason, Hint: hint, Err: e}
}

// A symptom is text in ssh's messages (which are in English whatever the locale),
// and what it means. The first one that is found counts: the more telling come
// first, for ssh ends with a general one.
type symptom struct {
	text    string
	kind    Kind
	refused bool   // dialling again would end the same way
	hint    string // with HOST, NAME, USER and KEYS in it
}

var symptoms = []symptom{
	{"REMOTE HOST IDENTIFICATION HAS CHANGED", HostKeyChanged, true, "find out why it changed, from somebody you trust; only then: ssh-keygen -R NAME"},
	{"Host key verification failed", HostKeyUnknown, true, `run "ssh HOST" once by hand and compare the key's fingerprint`},
	{"Bad configuration option", BadConfig, true, "correct the ssh config or the options after -e"},
	{"bad configuration options", BadConfig, true, "correct the ssh config or the options after -e"},
	{"Can't open user config file", BadConfig, true, "correct the file after -F"},
	{"Bad owner or permissions on", BadConfig, true, "chmod 600 that file"},
	{"usage: ssh", BadConfig, true, "correct the options after -e; OpenSSH 7.3 or newer is needed"},
	{"illegal option", BadConfig, true, "correct the options after -e; OpenSSH 7.3 or newer is needed"},
	{"Unable to negotiate", NoCommonAlgorithm, true, "an old server: allow its algorithms in the ssh config, as ssh(1) says under HostKeyAlgorithms"},
	{"Too many authentication failures", PermissionDenied, true, "name the one key that fits: IdentitiesOnly and IdentityFile in the ssh config"},
	{"Permission denied", PermissionDenied, true, `see which keys are offered with "ssh -v USER@HOST"; KEYS`},
	{"PTY allocation request failed", NoTerminal, true, "the account must be permitted one: no PermitTTY no in sshd_config, no restrict or no-pty in authorized_keys"},
	{"administratively prohibited", NotForwarded, true, "its sshd must permit it: AllowTcpForwarding and PermitOpen in sshd_config, no restrict or no-port-forwarding in authorized_keys"},
	{"Could not resolve hostname", NameNotFound, false, "check the name, and that this machine resolves names"},
	{"Connection refused", ConnectionRefused, false, "nothing listens there: check host and port"},
	{"No route to host", NoRoute, false, "check that this machine is online, and the firewall between"},
	{"Network is unreachable", NoRoute, false, "check that this machine is online"},
	{"timed out", TimedOut, false, "nobody answers: check host and port, and the firewall between"},
	{"Timeout, server", ServerGone, false, ""},
	{"Connection closed by", Closed, false, ""},
	{"Connection reset by", Closed, false, ""},
	{"closed by remote host", Closed, false, ""},
	{"Broken pipe", Closed, false, ""},
}

// exitOwn is the status by which ssh says that it failed itself, ssh(1).
const exitOwn = 255

// diagnose says why ssh ended, from its exit status and what it last wrote to
// standard error. s are the settings for the host; nil if not known.
func (c *Config) diagnose(err error, said []string, s settings) error {
	var exit *command.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("ssh: %w", err)
	}
	last := ""
	if len(said) > 0 {
		last = said[len(said)-1]
	}
	if exit.Status != exitOwn {
		reason := fmt.Sprintf("%s: the command there ended with %s", c.Target.Host, exit.How)
		if exit.Status < 0 {
			reason = fmt.Sprintf("%s: the ssh program ended with %s", c.Target.Host, exit.How)
		}
		if last != "" {
			reason += fmt.Sprintf("; it said: %q", last)
		}
		return &Error{Kind: CommandEnded, Reason: reason, Err: exit}
	}
	for _, symptom := range symptoms {
		for _, line := range said {
			if strings.Contains(line, symptom.text) {
				return c.failure(symptom, line, s)
			}
		}
	}
	if last == "" {
		last = "it gave no reason"
	}
	return &Error{Kind: Other, Reason: c.Target.Host + ": " + last, Hint: fmt.Sprintf("ssh -v %s", c.Target.Host)}
}

// failure is the error for a symptom that was found in line.
func (c *Config) failure(y symptom, line string, s settings) error {
	reason := fmt.Sprintf("%s: %s: %s", c.Target.Host, y.kind, strings.TrimPrefix(line, "ssh: "))
	name, user := c.Target.Host, c.Target.User
	if s != nil {
		name, user = displayName(s.get("hostname"), s.port()), s.get("user")
	}
	if alias := s.get("hostkeyalias"); alias != "" {
		name = alias
	}
	if strings.ContainsAny(name, "[]") {
		name = "'" + name + "'" // the shell's brackets
	}
	if y.kind == HostKeyChanged {
		reason = fmt.Sprintf("%s: %s: it is not the one in known_hosts", c.Target.Host, y.kind)
	}
	hint := strings.NewReplacer("HOST", c.Target.Host, "NAME", name, "USER", user, "KEYS", keys(s)).Replace(y.hint)
	if y.refused {
		return refusal(y.kind, reason, hint, nil)
	}
	return &Error{Kind: y.kind, Reason: reason, Hint: hint}
}

// keys says which key files ssh looks for and finds.
func keys(s settings) string {
	home, _ := os.UserHomeDir()
	var found []string
	for _, name := range s["identityfile"] {
		path := name
		if rest, ok := strings.CutPrefix(name, "~/"); ok {
			path = filepath.Join(home, rest)
		}
		if _, err := os.Stat(path); err == nil {
			found = append(found, carrier.Printable(name))
		}
	}
	if len(found) == 0 {
		return "no key file is there, and ssh-add -l shows those of the agent"
	}
	return "key files: " + strings.Join(found, ", ") + "; ssh-add -l shows those of the agent"
}
