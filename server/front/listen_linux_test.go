package front

import (
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := ListenUnix(t.Context(), path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if l.Name != "unix:"+path {
		t.Errorf("it is called %q", l.Name)
	}
	s := start(t, Config{Handlers: handled(), PerSource: 1}, l)
	var conns []net.Conn
	for range 3 { // there is no source to share
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	for _, c := range conns {
		io.WriteString(c, "SSH-")
		c.(*net.UnixConn).CloseWrite()
		if text, err := io.ReadAll(c); string(text) != "ssh SSH-" {
			t.Errorf("%q, %v", text, err)
		}
	}

	if _, err := ListenUnix(t.Context(), path, 0o600); err == nil || !strings.Contains(err.Error(), "listens there already") {
		t.Errorf("over a live one: %v", err)
	}
	s.stop()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}

	stale, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	stale.Close()
	again, err := ListenUnix(t.Context(), path, 0o600)
	if err != nil {
		t.Errorf("over a stale one: %v", err)
	} else {
		again.Close()
	}

	os.WriteFile(path, []byte("mine"), 0o600)
	if _, err := ListenUnix(t.Context(), path, 0o600); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("over a file: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "mine" {
		t.Error("the file was replaced")
	}
	if _, err := ListenUnix(t.Context(), "@front", 0o600); err == nil {
		t.Error("a socket without a file is open to all")
	}
}

// TestNarrow has no moment in which the socket is open to more than its mode says.
func TestNarrow(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	path := filepath.Join(t.TempDir(), "socket")
	config := net.ListenConfig{Control: narrow(0o600)}
	l, err := config.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// inherits makes this test's program a child that was handed sockets: it serves one
// connection on each and says their names.
const inherits = "FRONT_TEST_INHERITS"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(floods) != "":
		flood()
		os.Exit(0)
	case os.Getenv(inherits) == "":
		os.Exit(m.Run())
	}
	if os.Getenv(inherits) == "mine" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	listeners, err := Inherited(nil)
	if err != nil {
		io.WriteString(os.Stdout, err.Error()+"\n")
	}
	if os.Getenv("LISTEN_FDS") != "" {
		io.WriteString(os.Stdout, "the variables are still there\n")
	}
	for _, l := range listeners {
		io.WriteString(os.Stdout, listenerName(l)+"\n")
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		io.WriteString(c, "inherited")
		c.Close()
		l.Close()
	}
	os.Exit(0)
}

func TestInherited(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	local, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	tcpFile, _ := tcp.(*net.TCPListener).File()
	localFile, _ := local.(*net.UnixListener).File()
	datagram, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	plain := os.NewFile(uintptr(datagram), "datagram")
	defer tcpFile.Close()
	defer localFile.Close()
	defer plain.Close()
	for _, c := range []struct {
		name, inherits, count string
		files                 []*os.File
		want                  string
	}{
		{"two", "mine", "2", []*os.File{tcpFile, localFile}, "systemd:web " + tcp.Addr().String() + "\nsystemd " + path + "\n"},
		{"somebody else's", "others", "1", []*os.File{tcpFile}, ""},
		{"none", "mine", "0", nil, ""},
		{"nonsense", "mine", "many", nil, "front: LISTEN_FDS is \"many\", and no number of sockets\n"},
		{"no listener", "mine", "1", []*os.File{plain}, "front: socket 3 of the service manager's (systemd:web): "},
	} {
		t.Run(c.name, func(t *testing.T) {
			child := exec.Command(os.Args[0])
			child.Env = append(os.Environ(), inherits+"="+c.inherits, "LISTEN_FDS="+c.count, "LISTEN_FDNAMES=web:", "LISTEN_PID=1")
			child.ExtraFiles = c.files
			var out strings.Builder
			child.Stdout, child.Stderr = &out, os.Stderr
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			if c.name == "two" {
				for _, l := range []net.Listener{tcp, local} {
					conn, err := net.Dial(l.Addr().Network(), l.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					if text, _ := io.ReadAll(conn); string(text) != "inherited" {
						t.Errorf("%q", text)
					}
					conn.Close()
				}
			}
			if err := child.Wait(); err != nil {
				t.Fatal(err)
			}
			if got := out.String(); got != c.want && (c.name != "no listener" || !strings.HasPrefix(got, c.want)) {
				t.Errorf("it says %q, not %q", got, c.want)
			}
			if _, err := os.Stat(path); err != nil {
				t.Error("the child has removed the manager's socket")
			}
		})
	}
}
