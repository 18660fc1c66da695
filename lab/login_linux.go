package lab

import (
	"bytes"
	"context"
	"fmt"
	"strings"
)

// loginPAM is Debian's configuration of login without what needs the real machine
// (the audit system's login number, keyrings) and without the seconds that a wrong
// password costs there. What a login says is the same.
const loginPAM = `auth requisite pam_nologin.so
auth required pam_unix.so nodelay
account required pam_unix.so
session optional pam_motd.so noupdate
session required pam_env.so
session required pam_limits.so
session optional pam_lastlog.so
session optional pam_mail.so standard
session required pam_unix.so
password required pam_deny.so
`

// prepareLogin makes it so that the account can log in on a terminal.
func (m *Machine) prepareLogin(ctx context.Context, o *TelnetdOptions) error {
	if o.Port == 0 {
		o.Port = TelnetPort
	}
	if o.Account == "" {
		o.Account = "me"
	}
	if len(o.Program) > 0 {
		return nil
	}
	for path, text := range map[string]string{
		"/etc/pam.d/login": loginPAM,
		"/etc/motd":        o.Motd,
		"/run/utmp":        "", // who(1)'s; login leaves its record where there is one
		"/var/log/wtmp":    "",
		"/var/log/lastlog": "",
	} {
		if err := m.WriteFile(path, []byte(text), 0o644, "root"); err != nil {
			return err
		}
	}
	if o.Password != "" {
		if err := m.SetPassword(ctx, o.Account, o.Password); err != nil {
			return err
		}
	}
	if o.Shell != "" {
		return m.SetShell(o.Account, o.Shell)
	}
	return nil
}

// SetPassword gives an account of the machine a password, for login, su and others.
func (m *Machine) SetPassword(ctx context.Context, account, password string) error {
	c := m.Command(ctx, "chpasswd", "--crypt-method", "SHA512") // without PAM, whose settings are the real machine's
	c.Stdin = strings.NewReader(account + ":" + password + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("lab: %s: setting the password of %s: %w: %s", m.Name, account, err, bytes.TrimSpace(out))
	}
	return nil
}
