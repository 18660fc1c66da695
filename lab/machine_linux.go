package lab

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Machine is one computer of the lab. Its methods may be called from many
// goroutines at once, until the Lab is closed.
type Machine struct {
	Name string // its host name: "laptop"

	ns      namespaces
	init    *exec.Cmd      // the machine's process 1; all its processes end when it does
	alive   io.WriteCloser // process 1 ends when this closes, so also when we are killed
	netlink *netlink.Handle

	mu       sync.Mutex
	cmds     map[*Cmd]bool // started and not yet waited for
	stopped  bool
	services map[*services]bool // what this process serves there, in place of programs
}

// initName is what process 1 of a machine is called, and the child it waits for.
const initName = "lab-init"

// newMachine makes the namespaces and what is in them, without any network device
// but the loopback.
func newMachine(name string) (m *Machine, err error) {
	m = &Machine{Name: name, ns: namespaces{-1, -1, -1, -1, -1}, cmds: make(map[*Cmd]bool), services: make(map[*services]bool)}
	defer func() {
		if err != nil {
			m.stop()
			m.ns.close()
		}
	}()
	if err := onThread(m.unshare); err != nil {
		return m, fmt.Errorf("lab: making the machine %s: %w", name, err)
	}
	m.netlink, err = netlink.NewHandleAt(netns.NsHandle(m.ns.net))
	if err != nil {
		return m, fmt.Errorf("lab: %s: opening netlink: %w", name, err)
	}
	return m, nil
}

// unshare makes new namespaces for the calling thread and fills in m.ns and m.init.
func (m *Machine) unshare() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNET | unix.CLONE_NEWNS |
		unix.CLONE_NEWUTS | unix.CLONE_NEWIPC); err != nil {
		return err
	}
	for _, ns := range []struct {
		name string
		fd   *int
	}{{"net", &m.ns.net}, {"mnt", &m.ns.mnt}, {"uts", &m.ns.uts}, {"ipc", &m.ns.ipc}} {
		fd, err := unix.Open("/proc/thread-self/ns/"+ns.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening namespace %s: %w", ns.name, err)
		}
		*ns.fd = fd
	}
	// From here on no mount reaches the real machine.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	if err := unix.Sethostname([]byte(m.Name)); err != nil {
		return fmt.Errorf("setting the host name: %w", err)
	}
	if err := m.startInit(); err != nil {
		return err
	}
	return mountTrees()
}

// startInit starts process 1 of a new process namespace, and lets the calling thread
// start others there. It is a shell that waits: that reaps orphans, and ends when
// the pipe it was given does.
func (m *Machine) startInit() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	m.alive = w
	cmd := &exec.Cmd{
		Path:       "/bin/sh",
		Args:       []string{initName, "-c", "read -r end <&3 & wait $!"},
		Dir:        "/",
		Env:        []string{"PATH=" + searchPath},
		ExtraFiles: []*os.File{r},
		// By clone, not by unshare: the first process of a namespace decides its
		// life, and os/exec may start one of its own before ours.
		SysProcAttr: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID},
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting process 1: %w", err)
	}
	m.init = cmd
	m.ns.pid, err = unix.Open(fmt.Sprintf("/proc/%d/ns/pid", cmd.Process.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening namespace pid: %w", err)
	}
	return unix.Setns(m.ns.pid, unix.CLONE_NEWPID)
}

// mountTrees gives the calling thread's mount namespace its own files.
func mountTrees() error {
	// The changes to the copied trees live in a file system that the last mount
	// on /tmp then covers.
	if err := unix.Mount("tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return fmt.Errorf("mounting on /tmp: %w", err)
	}
	for _, dir := range []string{"/etc", "/var", "/usr/local"} {
		if err := mountCopy(dir); err != nil {
			return err
		}
	}
	for _, m := range []struct{ dir, kind, data string }{
		{"/home", "tmpfs", "mode=0755"},
		{"/root", "tmpfs", "mode=0700"},
		{"/run", "tmpfs", "mode=0755"},
		{"/tmp", "tmpfs", "mode=1777"},
		{"/var/tmp", "tmpfs", "mode=1777"},
		{"/dev/shm", "tmpfs", "mode=1777"}, // where squid leaves things behind
		{"/sys", "sysfs", ""},
	} {
		if err := unix.Mount(m.kind, m.dir, m.kind, unix.MS_NOSUID|unix.MS_NODEV, m.data); err != nil {
			return fmt.Errorf("mounting on %s: %w", m.dir, err)
		}
	}
	// As Debian has it: everybody may open it, and make devices in a network of their own.
	if err := unix.Mount("tmpfs", "/dev/net", "tmpfs", unix.MS_NOSUID, "mode=0755"); err != nil {
		return fmt.Errorf("mounting on /dev/net: %w", err)
	}
	if err := unix.Mknod("/dev/net/tun", unix.S_IFCHR|0o666, int(unix.Mkdev(10, 200))); err != nil {
		return fmt.Errorf("making /dev/net/tun: %w", err)
	}
	if err := unix.Chmod("/dev/net/tun", 0o666); err != nil {
		return err
	}
	// A tunnel that the real machine has, or had, is none of the lab's.
	if err := os.RemoveAll("/var/lib/bodkin"); err != nil {
		return err
	}
	// Only a process of a process namespace can mount what lists it.
	mount := exec.Cmd{Path: "/bin/mount", Args: []string{"mount", "-n", "-t", "proc", "-o", "nosuid,nodev,noexec", "proc", "/proc"}, Dir: "/"}
	if out, err := mount.CombinedOutput(); err != nil {
		return fmt.Errorf("mounting on /proc: %w: %s", err, bytes.TrimSpace(out))
	}
	for dir, mode := range map[string]os.FileMode{"/run/lock": 0o1777, "/run/sshd": 0o755} {
		if err := os.Mkdir(dir, mode.Perm()); err != nil {
			return err
		}
		if err := unix.Chmod(dir, uint32(mode)); err != nil {
			return err
		}
	}
	return nil
}

// mountCopy covers dir with a writable copy of itself.
func mountCopy(dir string) error {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("reading %s: %w", dir, err)
	}
	store := filepath.Join("/tmp", strings.ReplaceAll(dir[1:], "/", "-"))
	upper, work := store+"/upper", store+"/work"
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	// The copy's top directory shows the owner and mode of the upper one.
	if err := os.Chown(upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Chmod(upper, st.Mode&0o7777); err != nil {
		return err
	}
	err := unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+dir+",upperdir="+upper+",workdir="+work)
	if err != nil {
		return fmt.Errorf("mounting a copy of %s: %w", dir, err)
	}
	return nil
}

// Do runs fn on a thread inside the machine's namespaces, and waits for it: what
// fn opens (sockets, files, netlink) is the machine's. The thread ends with fn.
//
// Goroutines that fn starts are outside. For net.Dial that means literal
// addresses only. /proc/self does not exist inside; /proc/sys does.
func (m *Machine) Do(fn func() error) error {
	return onThread(func() error {
		if err := m.ns.enter(); err != nil {
			return fmt.Errorf("lab: entering %s: %w", m.Name, err)
		}
		return fn()
	})
}

// Netlink is a handle on the machine's addresses, routes and rules. It belongs to
// the Machine.
func (m *Machine) Netlink() *netlink.Handle { return m.netlink }

// Listen is net.Listen inside the machine.
func (m *Machine) Listen(network, address string) (l net.Listener, err error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // plain TCP is what the far ends of a real network speak
	err = m.Do(func() error {
		l, err = config.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// ListenPacket is net.ListenPacket inside the machine.
func (m *Machine) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = m.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial connects from inside the machine to a literal address and port.
func (m *Machine) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	err = m.Do(func() error {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// Sysctl reads a kernel setting, named as a path: "net/ipv4/ip_forward".
func (m *Machine) Sysctl(name string) (value string, err error) {
	err = m.Do(func() error {
		b, err := os.ReadFile("/proc/sys/" + name)
		value = strings.TrimSuffix(string(b), "\n")
		return err
	})
	return value, err
}

// SetSysctl changes a kernel setting of the machine's network.
func (m *Machine) SetSysctl(name, value string) error {
	return m.Do(func() error { return setSysctl(name, value) })
}

func setSysctl(name, value string) error {
	return os.WriteFile("/proc/sys/"+name, []byte(value), 0)
}

// stop ends every process of the machine and waits until all are gone. A second
// call does nothing.
func (m *Machine) stop() {
	m.mu.Lock()
	m.stopped = true
	cmds := m.cmds
	m.cmds = nil
	m.mu.Unlock()

	if m.init != nil {
		m.init.Process.Kill() // the kernel kills the whole namespace with it
	}
	for cmd := range cmds {
		cmd.Wait() // those whose parent is this process are this process's to reap
	}
	if m.init != nil {
		m.init.Wait() // returns once the namespace is empty
		m.init = nil
	}
	if m.alive != nil {
		m.alive.Close()
		m.alive = nil
	}
}

// closeServices ends what this process serves on the machine, which holds sockets in
// its namespaces.
func (m *Machine) closeServices() {
	m.mu.Lock()
	all := m.services
	m.services = nil
	m.mu.Unlock()
	for s := range all {
		s.close()
	}
}

// close ends the machine's processes and lets its namespaces go.
func (m *Machine) close() {
	m.stop()
	if m.netlink != nil {
		m.netlink.Close()
	}
	m.ns.close()
	m.ns = namespaces{-1, -1, -1, -1, -1}
}
