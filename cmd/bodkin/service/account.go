package service

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	file "github.com/bodkin-net/bodkin/config/profile"
)

// place finds where a service is to run, and as whom.
func place(isUser bool, as string) (p Place, err error) {
	p.User = isUser
	if p.Binary, err = os.Executable(); err != nil {
		return p, fmt.Errorf("service: %w", err)
	}
	if base := os.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(base) {
		p.Env = append(p.Env, "XDG_CONFIG_HOME="+base)
	}
	if isUser {
		if as != "" {
			return p, &config.Error{Reason: "--as is about a unit of the machine's, and --user is one of your own", Hint: "leave one of them out"}
		}
		return p, nil
	}
	p.As = Account{"root", "0"}
	if as != "" && os.Geteuid() == 0 {
		u, err := user.Lookup(as)
		if err != nil {
			return p, &config.Error{Reason: fmt.Sprintf("--as %q: there is no such user", as)}
		}
		// What follows works for that user, as if called by sudo: whose file of
		// profiles it is, and who may own it.
		os.Setenv("SUDO_UID", u.Uid)
	}
	switch uid := os.Getenv("SUDO_UID"); {
	case os.Geteuid() != 0:
		u, err := user.Current() // --plan shows a unit to whomever; the rest fails in its own words
		if err != nil {
			return p, fmt.Errorf("service: %w", err)
		}
		if as != "" && as != u.Username {
			return p, &config.Error{Reason: "--as " + as + ": only root reads another user's profiles", Hint: "sudo bodkin service install"}
		}
		p.As = Account{u.Username, u.Uid}
	case uid != "" && uid != "0":
		u, err := user.LookupId(uid)
		if err != nil {
			return p, fmt.Errorf("service: the user who called sudo: %w", err)
		}
		p.As = Account{u.Username, u.Uid}
	}
	return p, rootsAlone(p.Binary)
}

// rootsAlone refuses a program that somebody else could replace, for the machine's
// systemd would run that as root.
func rootsAlone(binary string) error {
	for path := binary; ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("service: %w", err)
		}
		if who, others := othersMayWrite(info); others {
			return report.WithHint(fmt.Errorf("service: %s is %s's to replace, and a unit of the machine's would run %s as root", path, who, binary),
				"sudo install -m 755 "+binary+" /usr/local/bin/bodkin, and call that; or use --user")
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}

// notes are what the user of a tunnel's service should know before it fails for it.
func (t tunnel) notes(p Place, f *file.Table) (notes []string) {
	if p.User && t.changesMachine() {
		text := "near = " + t.near.String() + " needs root, which a unit of your own has only if sudo does not ask; a line for `sudo visudo`: "
		if u, err := user.Current(); err == nil {
			text += u.Username + " ALL=(root) NOPASSWD: " + p.Binary + " host-helper"
		}
		notes = append(notes, text+"; or use --system, or near = \"socks\"")
	}
	if p.User && !lingers() {
		notes = append(notes, "it runs while you are logged in; always, after `loginctl enable-linger`")
	}
	for _, source := range f.Texts("password") {
		_, after, _ := strings.Cut(source, "=")
		switch {
		case source == "ask" || after == "ask":
			notes = append(notes, "password = \"ask\": nobody is there to be asked; a file or a command is: \"@FILE\", \"run:COMMAND\"")
		case strings.HasPrefix(source, "env:") || strings.HasPrefix(after, "env:"):
			notes = append(notes, "password = \"env:NAME\": a service has another environment than you; say it by `systemctl edit`, or use \"@FILE\"")
		}
	}
	if !p.User && os.Getenv("SSH_AUTH_SOCK") != "" {
		notes = append(notes, "the service has no ssh-agent: its key must need no passphrase")
	}
	return notes
}

// lingers reports whether the user's systemd runs without a login.
func lingers() bool {
	u, err := user.Current()
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join("/var/lib/systemd/linger", u.Username))
	return !errors.Is(err, os.ErrNotExist)
}
