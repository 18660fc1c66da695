package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A sysctlChange sets one kernel parameter.
type sysctlChange struct {
	Path string `json:"path"` // below /proc/sys: "net/ipv4/conf/all/src_valid_mark"
	Old  string `json:"old"`
	New  string `json:"new"`
}

func (c *sysctlChange) String() string {
	return fmt.Sprintf("sysctl %s=%s (now %s)", sysctlName(c.Path), c.New, c.Old)
}

func (c *sysctlChange) do(m *machine) error {
	if now, err := readSysctl(c.Path); err != nil || now == c.New {
		return err
	}
	return writeSysctl(c.Path, c.New)
}

// undo leaves a value alone that is neither ours nor the old one. Where another
// tunnel wants the same, unchanged, the journals' reader does not come here: see
// takeBack.
func (c *sysctlChange) undo(m *machine) (string, error) {
	now, err := readSysctl(c.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil || now != c.New || now == c.Old {
		return "", err
	}
	return fmt.Sprintf("sysctl %s=%s", sysctlName(c.Path), c.Old), writeSysctl(c.Path, c.Old)
}

func (c *sysctlChange) present(m *machine) (bool, error) {
	now, err := readSysctl(c.Path)
	return now == c.New, err
}

func (c *sysctlChange) lasts() bool { return false }

// sysctlName writes dots for slashes and slashes for dots, as sysctl(8) does for
// devices such as eth0.7.
func sysctlName(path string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(path)
}

func readSysctl(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join("/proc/sys", path))
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(path, value string) error {
	return os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
