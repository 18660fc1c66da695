package service

import (
	"fmt"
	"strings"

	"github.com/bodkin-net/bodkin/config"
	file "github.com/bodkin-net/bodkin/config/profile"
)

// A Place is where a service runs, and by what.
type Place struct {
	Binary string // the program, an absolute path
	Config string // the file of profiles, an absolute path
	User   bool   // a unit of the user's own systemd; else of the machine's
	As     Account
	Env    []string // NAME=VALUE that the service must have
}

// An Account is whose a service of the machine is.
type Account struct {
	Name string
	UID  string
}

func (a Account) root() bool { return a.UID == "0" }

// A tunnel is what a profile's unit depends on.
type tunnel struct {
	profile string
	name    string // of the tunnel
	near    config.Emulator
	detach  bool
}

// tunnelOf reads a profile as far as its unit depends on it.
func tunnelOf(t *file.Table) (tunnel, error) {
	tun := tunnel{profile: t.Name, name: t.Name}
	if n := t.Texts("name"); len(n) > 0 {
		tun.name = n[0]
	}
	if n := t.Texts("near"); len(n) > 0 {
		var err error
		if tun.near, err = config.ParseEmulator("--near", n[0]); err != nil {
			return tun, err
		}
	}
	if d := t.Texts("plan"); len(d) > 0 && d[0] == "true" {
		return tun, &config.Error{Reason: fmt.Sprintf("[%s] has plan = true: it brings nothing up", t.Name), Hint: "leave it out"}
	}
	d := t.Texts("detach")
	tun.detach = len(d) > 0 && d[0] == "true"
	return tun, nil
}

// changesMachine reports whether the tunnel makes something that only root may make.
func (t tunnel) changesMachine() bool { return t.near.Kind == config.Tun || t.near.Kind == config.PPPD }

// unit is the unit of a tunnel.
func (t tunnel) unit(p Place) (Unit, error) {
	args := []string{"up", "--config=" + p.Config}
	if t.detach {
		args = append(args, "--detach=false")
	}
	start, err := Exec(p.Binary, append(args, t.profile)...)
	if err != nil {
		return Unit{}, err
	}
	clean, err := Exec(p.Binary, "clean")
	if err != nil {
		return Unit{}, err
	}
	var b lines
	b.add("", "[Unit]", "Description=bodkin tunnel "+t.profile, "Documentation=man:bodkin-up(1) man:bodkin-service(1)")
	if !p.User {
		b.add("Wants=network-online.target", "After=network-online.target nss-lookup.target")
	}
	b.add("# A server may be away for any time.", "StartLimitIntervalSec=0")

	b.add("", "[Service]", "Type=notify", "ExecStart="+start, "# Not after a wrong call, nor where root is needed and not given: neither heals.")
	b.add("Restart=on-failure", "RestartPreventExitStatus=2 10", "RestartSec=5", "RestartSteps=6", "RestartMaxDelaySec=300")
	b.add("TimeoutStartSec=300", "TimeoutStopSec=30", "# The machine is put back as it was before ssh and the helper go.", "KillMode=mixed")
	if t.changesMachine() && !p.User {
		b.add("ExecStopPost=-" + clean)
	}
	for _, e := range p.Env {
		word, err := Quote(e)
		if err != nil {
			return Unit{}, err
		}
		b.add("Environment=" + word)
	}
	b.add(t.privileges(p)...)
	target := "multi-user.target"
	if p.User {
		target = "default.target"
	}
	b.add("", "[Install]", "WantedBy="+target)
	return Unit{File: unitName(t.profile), Text: b.String()}, nil
}

// privileges are what the service may do. It runs the user's ssh, and what that runs: so
// nothing that is in the way of a program which the user could start by hand, unless
// nothing of the machine's is changed.
func (t tunnel) privileges(p Place) (l []string) {
	switch {
	case t.changesMachine() && p.User:
		return []string{
			"# Its helper for the device and the routes is started by sudo, which must not ask:",
			"# no NoNewPrivileges= here, nor what implies it.",
		}
	case p.User:
		return []string{"NoNewPrivileges=yes", "LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native", "UMask=0077"}
	case !t.changesMachine():
		return []string{
			"User=" + p.As.Name, "NoNewPrivileges=yes", "CapabilityBoundingSet=", "ProtectSystem=full", "ProtectControlGroups=yes",
			"ProtectKernelLogs=yes", "ProtectKernelModules=yes", "ProtectKernelTunables=yes", "ProtectClock=yes", "ProtectHostname=yes",
			"LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "SystemCallArchitectures=native", "UMask=0077",
		}
	}
	l = []string{"User=root"}
	if !p.As.root() {
		l = []string{
			"# As under sudo: the helper for the device and the routes stays root, and all that",
			"# reads the network, ssh too, becomes " + p.As.Name + ".",
			"User=root", "Environment=SUDO_UID=" + p.As.UID,
		}
	}
	if t.near.Kind == config.Tun {
		l = append(l, "CapabilityBoundingSet="+strings.Join(helperCapabilities, " "))
	}
	return append(l, "ProtectSystem=yes", "ProtectControlGroups=yes", "ProtectKernelLogs=yes", "ProtectKernelModules=yes", "ProtectClock=yes",
		"LockPersonality=yes", "RestrictRealtime=yes", "SystemCallArchitectures=native")
}

// helperCapabilities are what the host helper uses, and what becoming a user takes. The
// user's process has none of them.
var helperCapabilities = []string{
	"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE", // device, routes, nft; a resolver's port
	"CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_CHOWN", // resolv.conf, whoever owns it; the user's profiles
	"CAP_SETUID", "CAP_SETGID", "CAP_KILL",
}

// crontab is a line that does the same where there is no systemd: again and again, for
// nobody else would start it once more.
func (t tunnel) crontab(p Place) string {
	line := fmt.Sprintf("@reboot while :; do %s up --config=%s %s; sleep 30; done", shellWord(p.Binary), shellWord(p.Config), t.profile)
	return strings.ReplaceAll(line, "%", `\%`) // a line end to cron, crontab(5)
}

func shellWord(s string) string {
	if !strings.ContainsAny(s, " \t\n'\"\\$`&|;<>()*?[]#~=%!{}") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// lines are the lines of a unit.
type lines struct{ list []string }

func (b *lines) add(l ...string) { b.list = append(b.list, l...) }

func (b *lines) String() string {
	return strings.TrimPrefix(strings.Join(b.list, "\n"), "\n") + "\n"
}
