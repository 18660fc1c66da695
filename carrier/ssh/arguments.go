package ssh

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// always are the options that no config overrides: ssh takes the first value it
// meets. The way must be clean, the far host gets the one channel and nothing
// else, and the connection is the tunnel's own.
var always = []string{
	"ClearAllForwardings=yes",
	"ForwardAgent=no",
	"ForwardX11=no",
	"PermitLocalCommand=no",
	"ControlMaster=no",
	"ControlPath=none",
	"Tunnel=no",
	"NoHostAuthenticationForLocalhost=no",
}

// sinceKnown are such options that older programs refuse: set where ssh -G knows
// the keyword. With any other value our command would not run on our pipes.
var sinceKnown = map[string]string{
	"remotecommand":           "RemoteCommand=none",
	"sessiontype":             "SessionType=default",
	"stdinnull":               "StdinNull=no",
	"forkafterauthentication": "ForkAfterAuthentication=no",
}

// afterwards undoes flags of the user's program for which the last one counts.
var afterwards = []string{"-a", "-x", "-e", "none", "-S", "none"}

// Whether the far side's command gets a terminal: as an option ahead of the user's
// own, and as flags after them. With -t once, ssh asks for a terminal only if it is
// on one itself.
var (
	noTerminal = "RequestTTY=no"
	terminal   = "RequestTTY=force"

	noTerminalFlags = []string{"-T"}
	terminalFlags   = []string{"-t", "-t"}
)

// arguments returns ssh's argument list, and notes on settings that are not
// followed. standard are the settings with no config at all.
func (c *Config) arguments(s, standard settings, batch bool) (args, notes []string) {
	args = []string{c.Program[0]}
	option := func(o string) { args = append(args, "-o", o) }
	for _, o := range always {
		option(o)
	}
	request, flags := noTerminal, noTerminalFlags
	if c.Terminal {
		request, flags = terminal, terminalFlags
	}
	option(request)
	for _, key := range []string{"remotecommand", "sessiontype", "stdinnull", "forkafterauthentication"} {
		if s.knows(key) {
			option(sinceKnown[key])
		}
	}
	switch v := s.get("stricthostkeychecking"); v {
	case "", "ask", "true", "yes":
	default:
		option("StrictHostKeyChecking=ask")
		if v == "false" {
			v = "no"
		}
		notes = append(notes, fmt.Sprintf("StrictHostKeyChecking=%s of your ssh settings is not followed: you are asked about an unknown host key", v))
	}
	switch s.get("verifyhostkeydns") {
	case "true", "yes":
		option("VerifyHostKeyDNS=ask")
		notes = append(notes, "VerifyHostKeyDNS=yes of your ssh settings is not followed: a host key from DNS alone is not believed")
	}
	if n := s.get("serveraliveinterval"); n == "" || n == "0" {
		option("ServerAliveInterval=15")
		option("ServerAliveCountMax=3")
	}
	if list := preferFast(s.get("ciphers"), standard.get("ciphers"), hasAES()); list != "" {
		option("Ciphers=" + list)
	}
	switch s.get("loglevel") {
	case "SILENT", "QUIET", "FATAL": // a failure would have no reason
		option("LogLevel=ERROR")
	}
	if batch {
		option("BatchMode=yes")
	}
	args = append(args, c.target()...)
	args = append(args, c.Program[1:]...)
	args = append(args, flags...)
	return append(args, afterwards...), notes
}

// target returns the options for the parts of the target that were given.
func (c *Config) target() []string {
	var args []string
	if c.Target.User != "" {
		args = append(args, "-l", c.Target.User)
	}
	if c.Target.Port != 0 {
		args = append(args, "-p", strconv.Itoa(int(c.Target.Port)))
	}
	return args
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_./:,@+-]+$`)

// proxyCommand returns the value of ProxyCommand that runs argv. ssh expands its
// per cent signs, then has the user's login shell run it, which may be any.
func proxyCommand(argv []string) (string, error) {
	var line []string
	for _, word := range argv {
		switch {
		case plainWord.MatchString(word):
		case strings.ContainsAny(word, "'\\!") || strings.ContainsFunc(word, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return "", fmt.Errorf("ssh: the program's path %q cannot be written for every shell; move it to a plainer one", word)
		default:
			word = "'" + word + "'"
		}
		line = append(line, strings.ReplaceAll(word, "%", "%%"))
	}
	return strings.Join(line, " "), nil
}
