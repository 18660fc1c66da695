package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// A manager is a systemd, the machine's or the user's, and where its units are.
type manager struct {
	user bool
	dir  string
	run  func(ctx context.Context, args ...string) (string, error) // systemctl
	here bool                                                      // it runs
}

// newManager finds the systemd of the machine, or of the present user.
func newManager(user bool) (*manager, error) {
	m := &manager{user: user, dir: "/etc/systemd/system", run: systemctl}
	_, err := os.Stat("/run/systemd/system") // sd_booted(3)
	m.here = err == nil
	if user {
		base, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("service: %w", err)
		}
		m.dir = filepath.Join(base, "systemd", "user")
		m.run = func(ctx context.Context, args ...string) (string, error) {
			return systemctl(ctx, append([]string{"--user"}, args...)...)
		}
	}
	return m, nil
}

// systemctl runs systemctl and returns what it prints, both kinds.
func systemctl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "systemctl", append([]string{"--no-ask-password"}, args...)...)
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil {
		err = fmt.Errorf("service: systemctl %s: %w", strings.Join(args, " "), err)
		if words := carrier.Printable(text); words != "" {
			err = fmt.Errorf("%w: %s", err, words)
		}
	}
	return text, err
}

// path is the file of a unit.
func (m *manager) path(unit string) string { return filepath.Join(m.dir, unit) }

// command is how a user would call systemctl.
func (m *manager) command(args ...string) string {
	if m.user {
		args = append([]string{"--user"}, args...)
	}
	return "systemctl " + strings.Join(args, " ")
}

// stranger is the refusal to change a unit that is not ours.
func stranger(path, why string) error {
	return report.WithHint(fmt.Errorf("service: %s: %s", path, why), "it is somebody else's: take it away by hand, or give the profile another name")
}

// ours reports whether there is a unit of that name which was made here. One that was
// not is an error.
func (m *manager) ours(unit string) (bool, error) {
	path := m.path(unit)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("service: %w", err)
	}
	if !info.Mode().IsRegular() {
		return false, stranger(path, "it is no ordinary file")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("service: %w", err)
	}
	if !bytes.HasPrefix(text, []byte(mark)) {
		return false, stranger(path, "it is there already, and was not made by `bodkin service install`")
	}
	return true, nil
}

// write puts a unit in its place, whole or not at all.
func (m *manager) write(u Unit, profile string) error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	f, err := os.CreateTemp(m.dir, ".bodkin-*") // a name that no systemd reads
	if err != nil {
		return fmt.Errorf("service: %w", err)
	}
	defer os.Remove(f.Name()) // gone by then if all went well
	_, err = f.WriteString(u.whole(profile))
	if err := errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	if err := os.Rename(f.Name(), m.path(u.File)); err != nil {
		return fmt.Errorf("service: %w", err)
	}
	return nil
}
