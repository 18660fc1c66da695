package service

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	file "github.com/bodkin-net/bodkin/config/profile"
)

// A Server is the text of the units of `bodkin serve`, by file name, with the program as
// a unit has it.
type Server func(program string) map[string]string

// The server's units.
const (
	serverService = "bodkin-serve.service"
	serverSocket  = "bodkin-serve.socket"
)

// units are the server's units. Without [serve] in the file of profiles, t is nil, they are
// as they come: the port is systemd's. With it, systemd hands the file to a service that
// could not read it where it is; and where it says itself what to listen at, there is no
// socket.
func (s Server) units(p Place, t *file.Table) ([]Unit, error) {
	program, err := Exec(p.Binary)
	if err != nil {
		return nil, err
	}
	texts := s(program)
	service, socket := texts[serverService], texts[serverSocket]
	if p.User {
		return ownServer(p, t)
	}
	if t == nil {
		return []Unit{{serverSocket, socket}, {serverService, service}}, nil
	}
	if strings.ContainsFunc(p.Config, func(r rune) bool { return r == '"' || r == '\\' || r == '\'' || r < ' ' || r == 0x7f }) {
		return nil, report.WithHint(fmt.Errorf("service: %q cannot stand in a unit", p.Config), "give the file a plainer name")
	}
	add := []string{
		"# The file of profiles, as it is when this starts.",
		"LoadCredential=config.toml:" + strings.ReplaceAll(p.Config, "%", "%%"),
	}
	listens := t.Texts("listen")
	if low(listens) {
		add = append(add, "CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE")
	}
	service, err = amend(service, "ExecStart="+program+" serve", "--config=%d/config.toml", add, len(listens) > 0)
	if err != nil {
		return nil, err
	}
	if len(listens) > 0 {
		return []Unit{{serverService, service}}, nil
	}
	return []Unit{{serverSocket, socket}, {serverService, service}}, nil
}

// amend adds an argument and lines to a service's text, in place of those with the same
// keys, and takes the mention of its socket away if it has none.
func amend(text, start, argument string, add []string, alone bool) (string, error) {
	var b lines
	found := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == start:
			found = true
			b.add(line + " " + argument)
			b.add(add...)
		case alone && strings.HasSuffix(line, "="+serverSocket), replaced(line, add):
		default:
			b.add(line)
		}
	}
	if !found {
		return "", fmt.Errorf("service: the server's unit does not have %q", start)
	}
	return b.String(), nil
}

// replaced reports whether a line's key is among those that are added.
func replaced(line string, add []string) bool {
	key, _, ok := strings.Cut(line, "=")
	for _, a := range add {
		if ok && line[0] != '#' && strings.HasPrefix(a, key+"=") {
			return true
		}
	}
	return false
}

// low reports whether one of the addresses is a port that not everybody may have.
func low(listens []string) bool {
	for _, l := range listens {
		_, port, err := net.SplitHostPort(l)
		if n, bad := strconv.Atoi(port); err == nil && bad == nil && n < 1024 {
			return true
		}
	}
	return false
}

// ownServer is the server under the user's own systemd, with the user's own files.
func ownServer(p Place, t *file.Table) ([]Unit, error) {
	args := []string{"serve"}
	if t != nil {
		args = append(args, "--config="+p.Config)
	}
	start, err := Exec(p.Binary, args...)
	if err != nil {
		return nil, err
	}
	var b lines
	b.add("[Unit]", "Description=bodkin server", "Documentation=man:bodkin-serve(1)", "StartLimitIntervalSec=0", "")
	b.add("[Service]", "Type=notify", "ExecStart="+start, "Restart=on-failure", "RestartPreventExitStatus=2", "RestartSec=5", "WatchdogSec=60", "TimeoutStopSec=20")
	for _, e := range p.Env {
		word, err := Quote(e)
		if err != nil {
			return nil, err
		}
		b.add("Environment=" + word)
	}
	b.add("NoNewPrivileges=yes", "LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native", "UMask=0077")
	b.add("", "[Install]", "WantedBy=default.target")
	return []Unit{{serverService, b.String()}}, nil
}
