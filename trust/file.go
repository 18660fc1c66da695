package trust

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Dir returns the directory of the user's keys and of both files: bodkin below
// $XDG_CONFIG_HOME, or below ~/.config.
func Dir() (string, error) {
	base := os.Getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(base) { // the XDG specification has relative ones ignored
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("trust: %w", err)
		}
		base = filepath.Join(home, ".config")
	}
	return filepath.Join(base, "bodkin"), nil
}

// The names of the files in Dir.
const (
	KeyFile     = "key"
	ServersFile = "known_servers"
	ClientsFile = "authorized_clients"
)

// An UnsafeError says why a file was not used: somebody else could have written it, or
// could have read what is secret in it.
type UnsafeError struct {
	File   string
	Reason string
	Remedy string // what sets it right, a command as a rule; may be empty
}

func (e *UnsafeError) Error() string { return fmt.Sprintf("trust: %s: %s", e.File, e.Reason) }

// A care is how much of a file others may do.
type care struct {
	forbidden  fs.FileMode // what nobody but the owner may
	reason     string
	remedy     string
	rootMayOwn bool // beside us
}

var (
	private = care{0o077, "others may read it", "chmod 600", false}
	shared  = care{0o022, "others may write it", "chmod go-w", true}
)

// readFile reads a file that is ordinary, ours, and closed to others as c says, in a
// directory where nobody else can put another in its place.
func readFile(file string, c care) ([]byte, error) {
	f, err := openOrdinary(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat() // of what was opened, whatever the name leads to by now
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, &UnsafeError{file, "it is not an ordinary file", "put a file in its place"}
	}
	if err := c.check(file, info); err != nil {
		return nil, err
	}
	dir := filepath.Dir(file)
	dirInfo, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	if dirInfo.Mode()&fs.ModeSticky == 0 { // else only the owner may replace the file
		if err := shared.check(dir, dirInfo); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("trust: %s: it has more than %d octets", file, maxFile)
	}
	return text, nil
}

// loadOptional is readFile for a file that says nothing by not being there.
func loadOptional(file string) ([]byte, error) {
	text, err := readFile(file, shared)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// check refuses a file or directory that is not ours, or open to others.
func (c care) check(file string, info fs.FileInfo) error {
	if who, ours := owner(info, c.rootMayOwn); !ours {
		return &UnsafeError{file, "it belongs to " + who, ""}
	}
	if mode := permissions(info); mode&c.forbidden != 0 {
		return &UnsafeError{file, fmt.Sprintf("%s: its mode is %04o", c.reason, mode), c.remedy + " " + file}
	}
	return nil
}

// makeDir makes the file's directory, for us alone, if it is not there.
func makeDir(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	return nil
}

// writeFile puts text into the file, for us alone: into a new one that then takes the
// name. Where the name cannot be taken, since something is mounted on it, the file
// itself is written.
func writeFile(file string, text []byte) error {
	if err := makeDir(file); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+"-*") // 0600
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	defer os.Remove(f.Name()) // gone by then if all went well
	if err := fill(f, text); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), file); !isBusy(err) {
		if err != nil {
			err = fmt.Errorf("trust: %w", err)
		}
		return err
	}
	f, err = os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	return fill(f, text)
}

// createFile makes the file, for us alone, and fails with fs.ErrExist if there is one.
func createFile(file string, text []byte) error {
	if err := makeDir(file); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	if err := fill(f, text); err != nil {
		os.Remove(file)
		return err
	}
	return nil
}

// fill writes text to f, down to the disk, and closes it.
func fill(f *os.File, text []byte) error {
	_, err := f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	return nil
}
