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

	// Along is what the kernel sets besides when this parameter is written: Old as
	// it was before, New as the kernel makes it.
	Along []parameter `json:"along,omitempty"`
}

// A parameter is one that changes along with another.
type parameter struct {
	Path string `json:"path"`
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
	// What the kernel sets along with it, both ways, is as it was before, or as
	// somebody else has made it since.
	want := make(map[string]string)
	for _, a := range c.Along {
		now, err := readSysctl(a.Path)
		if err != nil {
			continue // its device is gone
		}
		if want[a.Path] = now; now == a.New {
			want[a.Path] = a.Old
		}
	}
	err = writeSysctl(c.Path, c.Old)
	for path, value := range want {
		if now, _ := readSysctl(path); now != value && err == nil {
			err = writeSysctl(path, value)
		}
	}
	return fmt.Sprintf("sysctl %s=%s", sysctlName(c.Path), c.Old), err
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
