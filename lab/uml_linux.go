package lab

import (
	_ "embed"
	"fmt"
	"os/exec"
)

//go:embed uml_pppd.sh
var umlPPPD []byte

//go:embed uml_init.sh
var umlInit []byte

// umlInitPath is where uml_pppd.sh looks for uml_init.sh.
const umlInitPath = "/usr/local/lib/lab/pppd-init"

// InstallPPPD gives the machine a pppd that works though the kernel here may have
// no PPP: a program of that name, ahead of Debian's in every account's path, which
// runs Debian's in a kernel of its own (User Mode Linux) that takes a second to
// start and about 64 MiB of memory. Options, signals and exit status are pppd's;
// the network that it makes is the guest's, see PPPD.
func (m *Machine) InstallPPPD() error {
	for _, need := range []struct{ program, pkg string }{
		{"/usr/bin/linux.uml", "user-mode-linux"},
		{"/usr/sbin/pppd", "ppp"},
		{"busybox", "busybox"},
	} {
		if _, err := exec.LookPath(need.program); err != nil {
			return fmt.Errorf("lab: %s: installing pppd: %s is missing (Debian's package %s)", m.Name, need.program, need.pkg)
		}
	}
	if err := m.WriteFile(umlInitPath, umlInit, 0o755, "root"); err != nil {
		return err
	}
	return m.WriteFile("/usr/local/bin/pppd", umlPPPD, 0o755, "root")
}
