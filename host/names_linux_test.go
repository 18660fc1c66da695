package host

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// shapes are the forms in which machines have resolv.conf.
var shapes = []struct {
	name string
	make func() error // from nothing
}{
	{"file", func() error { return os.WriteFile(resolvConf, []byte(nearResolvConf), 0o640) }},
	{"empty file of a user", func() error {
		return errors.Join(os.WriteFile(resolvConf, nil, 0o600), os.Chown(resolvConf, 1000, 100))
	}},
	{"link to another manager's file", func() error {
		return errors.Join(os.MkdirAll("/run/manager", 0o755), os.WriteFile("/run/manager/resolv.conf", []byte(nearResolvConf), 0o644),
			os.Symlink("../run/manager/resolv.conf", resolvConf))
	}},
	{"dangling link", func() error { return os.Symlink("/run/nobody/resolv.conf", resolvConf) }},
	{"mount point", func() error { return mountOver(nearResolvConf) }},
	{"mount point, longer than ours", func() error { return mountOver(strings.Repeat("# a long one\n", 1000)) }},
	{"missing", func() error { return nil }},
}

func mountOver(text string) error {
	return errors.Join(os.WriteFile("/run/container-resolv.conf", []byte(text), 0o644), os.WriteFile(resolvConf, nil, 0o644),
		unix.Mount("/run/container-resolv.conf", resolvConf, "", unix.MS_BIND, ""))
}

// reshape removes what there is and makes another shape.
func reshape(t *testing.T, make func() error) {
	t.Helper()
	unix.Unmount(resolvConf, 0)
	err := os.Remove(resolvConf)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, make()); err != nil {
		t.Fatal(err)
	}
}

// namesWish changes names and little else.
func namesWish() Wish {
	w := fullWish()
	w.Routes, w.Carrier = nil, nil
	return w
}

func TestResolvConf(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	dir := journals(t)
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			reshape(t, shape.make)
			before := snapshot(t)
			inode := inodeOf(t)
			s, err := Set(namesWish(), dir)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(resolvConf)
			if err != nil || len(nameServers(text)) != 2 || nameServers(text)[0] != s.wish.DNS.Servers[0] {
				t.Errorf("%v: %q", err, text)
			}
			if err := s.Undo(); err != nil {
				t.Fatal(err)
			}
			if n := s.Notes(); len(n) != 0 {
				t.Errorf("notes: %q", n)
			}
			sameAs(t, before)
			if got := inodeOf(t); got != inode {
				t.Errorf("inode %d, was %d", got, inode)
			}
			killEverywhere(t, attempt{Wish: namesWish(), Dir: dir, Undo: true}, before)
		})
	}
}

// With a forwarder, resolv.conf names it alone and keeps the rest, whatever it is,
// and comes back as it was, wherever the process was killed.
func TestForwarder(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	dir := journals(t)
	w := namesWish()
	w.Addrs, w.Routes = prefixes("10.0.2.15/24"), prefixes("192.0.2.0/24")
	w.DNS = DNS{Servers: []netip.Addr{netip.MustParseAddr("10.9.9.9")}, Domains: []string{"corp.example"}}
	for _, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			reshape(t, shape.make)
			before := snapshot(t)
			w.DNS.Forwarder = netip.Addr{}
			if _, err := Set(w, dir); !errors.Is(err, ErrSplitDNS) {
				t.Fatalf("without a forwarder: %v", err)
			}
			old, _ := os.ReadFile(resolvConf)
			had, err := NameServers()
			if err != nil || had[0].String() != map[bool]string{true: "192.0.2.53", false: "127.0.0.1"}[strings.Contains(string(old), "192.0.2.53")] {
				t.Errorf("NameServers: %v, %v", had, err)
			}

			w.DNS.Forwarder = netip.MustParseAddr("127.66.0.53")
			s, err := Set(w, dir)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(resolvConf)
			if err != nil || len(nameServers(text)) != 1 || nameServers(text)[0] != w.DNS.Forwarder {
				t.Errorf("%v: %q", err, text)
			}
			if strings.Contains(string(old), "search lan") && !strings.Contains(string(text), "search lan\noptions edns0\n") {
				t.Errorf("the search list is lost: %q", text)
			}
			if dev := routeTo(t, "10.9.9.9", 0); dev != "bodkin0" {
				t.Errorf("the domain's server is asked by %s", dev)
			}
			if n := strings.Join(s.Notes(), "\n"); strings.Contains(n, "192.0.2.53 is asked through the tunnel") != strings.Contains(string(old), "192.0.2.53") {
				t.Errorf("notes: %q", n)
			}
			if err := s.Undo(); err != nil {
				t.Fatal(err)
			}
			sameAs(t, before)
			killEverywhere(t, attempt{Wish: w, Dir: dir, Undo: true}, before)
		})
	}
}

func inodeOf(t *testing.T) uint64 {
	t.Helper()
	var st unix.Stat_t
	err := unix.Lstat(resolvConf, &st)
	if err != nil && err != unix.ENOENT {
		t.Fatal(err)
	}
	return st.Ino
}

// killEverywhere kills the attempt at each of its points that have to do with
// resolv.conf, cleans up, and wants the machine as it was before.
func killEverywhere(t *testing.T, a attempt, before string) {
	t.Helper()
	killed := 0
	for a.Kill = 1; ; a.Kill++ {
		a.Only = resolvConf
		point := a.run(t)
		if point == "" {
			break
		}
		killed++
		if _, err := CleanUp(a.Dir); err != nil {
			t.Fatalf("killed at %q: %v", point, err)
		}
		sameAs(t, before)
	}
	sameAs(t, before)
	if killed < 4 {
		t.Errorf("killed at %d points only", killed)
	}
}

// A stranger's edit stays, whatever he made of the file.
func TestResolvConfEdited(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	dir := journals(t)
	const theirs = "nameserver 198.51.100.1\n"
	edits := []struct {
		name string
		edit func() error
	}{
		{"in place", func() error { return os.WriteFile(resolvConf, []byte(theirs), 0o644) }},
		{"appended", func() error {
			f, err := os.OpenFile(resolvConf, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString(theirs)
			return errors.Join(err, f.Close())
		}},
		{"a link", func() error {
			return errors.Join(os.WriteFile("/run/theirs", []byte(theirs), 0o644), os.Remove(resolvConf), os.Symlink("/run/theirs", resolvConf))
		}},
		{"removed", func() error { return os.Remove(resolvConf) }},
	}
	for _, shape := range shapes {
		for _, e := range edits {
			if strings.HasPrefix(shape.name, "mount") && e.name != "in place" && e.name != "appended" {
				continue // a mount point can be neither removed nor replaced
			}
			t.Run(shape.name+", "+e.name, func(t *testing.T) {
				reshape(t, shape.make)
				s, err := Set(namesWish(), dir)
				if err != nil {
					t.Fatal(err)
				}
				if err := e.edit(); err != nil {
					t.Fatal(err)
				}
				edited, _, err := lookAt(resolvConf)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Undo(); err != nil {
					t.Fatal(err)
				}
				now, _, err := lookAt(resolvConf)
				if err != nil || !now.equal(edited) {
					t.Errorf("%v: it is %v, the stranger left %v", err, now, edited)
				}
				restored := shape.name == "missing" && e.name == "removed"
				if n := s.Notes(); !restored && (len(n) != 1 || !strings.Contains(n[0], "another program")) {
					t.Errorf("notes: %q", n)
				}
				if left := snapshot(t); strings.Contains(left, "resolv.conf.bodkin") {
					t.Error("the old one is still kept beside it")
				}
			})
		}
	}
}

// What we cannot give back we do not take.
func TestResolvConfRefused(t *testing.T) {
	if !alone(t) {
		return
	}
	newTun(t, "bodkin0")
	dir := journals(t)
	for _, c := range []struct {
		name string
		make func() error
	}{
		{"too large", func() error { return os.WriteFile(resolvConf, make([]byte, maxResolvConf+1), 0o644) }},
		{"a directory", func() error { return os.Mkdir(resolvConf, 0o755) }},
		{"a FIFO", func() error { return unix.Mkfifo(resolvConf, 0o644) }},
		{"one that was kept is there", func() error {
			return errors.Join(os.WriteFile(resolvConf, nil, 0o644), os.WriteFile(resolvConf+".bodkin-bodkin0", nil, 0o644))
		}},
	} {
		reshape(t, c.make)
		before, _, _ := lookAt(resolvConf)
		_, err := Set(namesWish(), dir)
		if err == nil || !strings.HasPrefix(err.Error(), "host: DNS: ") {
			t.Errorf("%s: %v", c.name, err)
		}
		if after, _, _ := lookAt(resolvConf); !after.equal(before) {
			t.Errorf("%s: it is now %v", c.name, after)
		}
	}
}
