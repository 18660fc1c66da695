package profile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/config"
	file "github.com/bodkin-net/bodkin/config/profile"
	"github.com/bodkin-net/bodkin/trust"
)

// Name is what the file is called, in the directory of the user's settings.
const Name = "config.toml"

// maxText is how much of a file is read: more than package config/profile takes.
const maxText = 1 << 20

// Path returns the file that --config of cmd names, absolute, and true; or the usual one
// of the user whom the command works for, and false.
func Path(cmd *cobra.Command) (string, bool, error) {
	if f := cmd.Flags().Lookup(configFlag); f != nil && f.Changed {
		path, err := filepath.Abs(f.Value.String())
		return path, true, err
	}
	if home := callersHome(cmd); home != "" {
		return filepath.Join(home, ".config", "bodkin", Name), false, nil
	}
	dir, err := trust.Dir()
	return filepath.Join(dir, Name), false, err
}

// callersHome is where the user lives who called `sudo bodkin up`, which gives root up
// for that user and has that user's keys; empty if it is not so, or for the server,
// which goes on as root, and so by root's file.
func callersHome(cmd *cobra.Command) string {
	uid := caller()
	if uid == "" || cmd.Name() == file.Server || filepath.IsAbs(os.Getenv("XDG_CONFIG_HOME")) {
		return ""
	}
	u, err := user.LookupId(uid)
	if err != nil {
		return ""
	}
	return u.HomeDir
}

// caller is the number of the user for whom sudo made us root, or empty.
func caller() string {
	if os.Geteuid() != 0 {
		return ""
	}
	return os.Getenv("SUDO_UID")
}

// Load reads the file that cmd is to use, and checks all that can be checked without
// knowing which profile is wanted: that nobody else could have written it, its shape, its
// keys and the kinds of values. A usual file that is not there has no profiles.
func (s *Set) Load(cmd *cobra.Command) (*file.File, error) {
	path, named, err := Path(cmd)
	if err != nil {
		return nil, err
	}
	text, err := read(path)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return &file.File{Name: path}, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := file.Parse(path, text)
	if err != nil {
		return nil, err
	}
	return f, f.Check(s.keys)
}

// read reads a file that is ordinary, ours or root's, and that others may not write, as
// ssh has its settings. It may be a link to one.
func read(path string) ([]byte, error) {
	f, err := open(path)
	if err != nil {
		return nil, report.WithHint(report.Usage(fmt.Errorf("profiles: %w", err)), "a file of profiles is one that you may read")
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, whatever the name leads to by now
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	mode := info.Mode().Perm()
	switch who, ours := owner(info); {
	case !info.Mode().IsRegular():
		return nil, &config.Error{Reason: path + ": it is not an ordinary file", Hint: "put a file in its place"}
	case !ours:
		return nil, &config.Error{Reason: path + ": it belongs to " + who, Hint: "it says which programs run: it must be yours, or root's"}
	case writable(info):
		return nil, &config.Error{Reason: fmt.Sprintf("%s: others may write it: its mode is %04o", path, mode), Hint: "chmod go-w " + path}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxText))
	if err != nil {
		return nil, fmt.Errorf("profiles: %w", err)
	}
	return text, nil
}
