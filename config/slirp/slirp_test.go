package slirp

import (
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/config"
)

// disk is a machine whose files are these.
type disk map[string]string

func (d disk) system() System {
	return System{
		Home: "/home/me",
		Open: func(name string) (io.ReadCloser, error) {
			text, ok := d[name]
			if !ok {
				return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
			}
			return io.NopCloser(strings.NewReader(text)), nil
		},
		Port: func(network, service string) (uint16, bool) {
			n, ok := map[string]uint16{"tcp ftp": 21, "tcp domain": 53, "udp domain": 53}[network+" "+service]
			return n, ok
		},
	}
}

func port(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

// TestCommands: commands and what they make of the defaults.
func TestCommands(t *testing.T) {
	for _, c := range []struct {
		args []string
		want func(*Options)
	}{
		{nil, func(*Options) {}},
		{[]string{"ppp"}, func(*Options) {}},
		{[]string{"-P", "-vj"}, func(o *Options) { o.Notes = []string{"-vj is ignored: headers are not compressed in any case"} }},
		{[]string{"ppp", "mtu 552", "mru 296"}, func(o *Options) { o.MTU, o.MRU = 552, 296 }},
		{[]string{"ppp", "mtu", "552", "-am"}, func(o *Options) { o.MTU, o.NoACCM = 552, true }},
		{[]string{"-as", "a0000"}, func(o *Options) { o.ACCM = 0xa0000 }},
		{[]string{"asyncmap ffffffff", "escape ff"}, func(o *Options) { o.ACCM, o.Escape[0xff] = 0xffffffff, true }},
		{[]string{"escape 0x11,13-15,1D"}, func(o *Options) { // slirp says: 0x11, 0x13, 0x14, ...
			for _, b := range []int{0x11, 0x13, 0x14, 0x15, 0x1d} {
				o.Escape[b] = true
			}
		}},
		{[]string{"-ac", "-pc", "-mn", "-mru", "-ip"}, func(o *Options) { o.NoACFC, o.NoPFC, o.NoMagic, o.NoMRU, o.NoIP = true, true, true, true, true }},
		{[]string{"-all"}, func(o *Options) { o.NoACFC, o.NoPFC, o.NoMagic, o.NoMRU, o.NoACCM = true, true, true, true, true }},
		{[]string{"initiate-options", "ppp_exit", "nozeros", "tty /dev/ttyS0"}, func(o *Options) { o.Initiate, o.PPPExit, o.NoZeros, o.TTY = true, true, true, "/dev/ttyS0" }},
		{[]string{"wait 3"}, func(o *Options) { o.Wait = 3 * time.Minute }},
		{[]string{"wait", "0"}, func(o *Options) { o.Wait = 0 }},
		{[]string{"wait", "ppp_exit"}, func(o *Options) { o.PPPExit = true }},
		{[]string{"lcp-restart 5", "lcp-max-configure 4", "lcp-max-terminate 3", "lcp-max-failure 2"}, func(o *Options) { o.LCP = Timers{5 * time.Second, 4, 3, 2} }},
		{[]string{"ipcp-restart 5", "ipcp-max-configure 4", "ipcp-max-terminate 3", "ipcp-max-failure 2"}, func(o *Options) { o.IPCP = Timers{5 * time.Second, 4, 3, 2} }},
		{[]string{"lcp-echo-interval 20", "lcp-echo-failure 4"}, func(o *Options) { o.EchoInterval, o.EchoFailure = 20*time.Second, 4 }},
		{[]string{"dns 192.0.2.1", "dns 192.0.2.2"}, func(o *Options) {
			o.DNS = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
		}},
		{[]string{"special addr 10.1.2.0"}, func(o *Options) { o.Special = netip.MustParsePrefix("10.1.2.0/24") }},
		{[]string{"special address 10.1.2.0"}, func(o *Options) { o.Special = netip.MustParsePrefix("10.1.2.0/24") }},
		{[]string{"ipcp-accept-local", "ipcp-accept-remote"}, func(o *Options) { o.AcceptLocal, o.AcceptRemote = true, true }},
		{[]string{"auth", "+pap", "-chap", "name me", "user you", "remotename gw", "domain example", "usehostname"}, func(o *Options) {
			o.Auth = Auth{Require: true, RequirePAP: true, RefuseCHAP: true, Name: "me", User: "you", RemoteName: "gw", Domain: "example", UseHostname: true}
		}},
		{[]string{"+chap", "chap-interval 60", "chap-restart 2", "pap-max-authreq 7", "pap-timeout 9"}, func(o *Options) {
			o.Auth = Auth{Require: true, RequireCHAP: true, Interval: time.Minute, Restart: 2 * time.Second, MaxTries: 7, Timeout: 9 * time.Second}
		}},
		{[]string{"debugppp /tmp/p"}, func(o *Options) { o.DebugPPP = "/tmp/p" }},
		{[]string{"-dppp", "-"}, func(o *Options) { o.DebugPPP = "-" }},
		{[]string{"allow host", "allow", "link-local", "record /tmp/r"}, func(o *Options) { o.AllowHost, o.AllowLinkLocal, o.Record = true, true, "/tmp/r" }},
		{[]string{"-b", "14400", "baudrate 9600"}, func(o *Options) { o.Notes = []string{"baudrate is ignored: " + noModem} }},
		{[]string{"keepalive", "60", "add emu ftp 8021:0", "host addr 192.0.2.1", "-d 3"}, func(o *Options) {
			o.Notes = []string{
				"keepalive is ignored: connections are always probed, the outer ones after two minutes, the inner ones after ten",
				"add emu is ignored: no protocol is rewritten on its way: passive FTP and the like need nothing, active FTP and DCC do not work",
				"host addr is ignored: this host's addresses are known",
				"debug is ignored: no file slirp_debug is written; debugppp has what PPP says",
			}
		}},
		{[]string{"help", "redir"}, func(o *Options) { s := "redir"; o.Help = &s }},
		{[]string{"-h"}, func(o *Options) { s := ""; o.Help = &s }},
		{[]string{"-v"}, func(o *Options) { o.Version = true }},
		{[]string{"lcp-echo-failure 4"}, func(o *Options) {
			o.EchoFailure, o.Notes = 4, []string{"lcp-echo-failure does nothing without lcp-echo-interval"}
		}},
	} {
		got, err := Parse(c.args, disk{}.system())
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		want := defaults()
		c.want(&want)
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%q:\n%+v, want\n%+v", c.args, *got, want)
		}
	}
}

// TestRedir: what slirp says it does for the same words, but for where it listens.
func TestRedir(t *testing.T) {
	for _, c := range []struct {
		args []string
		want Redirect
	}{
		{[]string{"redir 5555 80"}, Redirect{"tcp", port("127.0.0.1:5555"), port("10.0.2.15:80"), false, 0}},
		{[]string{"redir tcp 5021 to 21"}, Redirect{"tcp", port("127.0.0.1:5021"), port("10.0.2.15:21"), false, 0}},
		{[]string{"redir once 5997 ftp"}, Redirect{"tcp", port("127.0.0.1:5997"), port("10.0.2.15:21"), true, 0}},
		{[]string{"redir time udp 5998 to 10.0.2.15:80"}, Redirect{"udp", port("127.0.0.1:5998"), port("10.0.2.15:80"), false, 4 * time.Minute}},
		{[]string{"redir udp 2213 192.168.1.7:2213"}, Redirect{"udp", port("127.0.0.1:2213"), port("192.168.1.7:2213"), false, 0}},
		{[]string{"redir udp domain domain"}, Redirect{"udp", port("127.0.0.1:53"), port("10.0.2.15:53"), false, 0}},
		{[]string{"redir 0.0.0.0:5555 80"}, Redirect{"tcp", port("0.0.0.0:5555"), port("10.0.2.15:80"), false, 0}},
		{[]string{"redir [::1]:5555 80"}, Redirect{"tcp", port("[::1]:5555"), port("10.0.2.15:80"), false, 0}},
		{[]string{"redir 5555 80", "special addr 10.9.8.0"}, Redirect{"tcp", port("127.0.0.1:5555"), port("10.9.8.15:80"), false, 0}},
	} {
		got, err := Parse(c.args, disk{}.system())
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
		} else if len(got.Redirects) != 1 || got.Redirects[0] != c.want {
			t.Errorf("%q: %+v, want %+v", c.args, got.Redirects, c.want)
		}
	}
}

// TestFiles: ~/.slirprc comes first, and then the command line with what it names.
func TestFiles(t *testing.T) {
	files := disk{
		"/home/me/.slirprc": "# mine\n\n-P\n  -b 14400 \nredir 5022 21\nmtu 1000\n",
		"/etc/slirp.work":   "mtu 900\nconfig /etc/slirp.more\n",
		"/etc/slirp.more":   "asyncmap 0\nmtu 800",
	}
	o, err := Parse([]string{"mru 400", "-f", "/etc/slirp.work"}, files.system())
	if err != nil {
		t.Fatal(err)
	}
	if o.MTU != 800 || o.MRU != 400 || len(o.Redirects) != 1 || len(o.Notes) != 1 {
		t.Errorf("%+v", *o)
	}
}

// TestErrors: what is refused, where and why.
func TestErrors(t *testing.T) {
	files := disk{
		"/a": "mtu 552\nmtu tiny\n", "/b": "config /b\n", "/c": "mtu 5\x1b[2J52",
		"/d": strings.Repeat("x", maxFile+1), "/e": "redir 5555 80\nredir 5555 81\n",
	}
	for _, c := range []struct {
		args []string
		want string // of the error
		hint string // a part of it
	}{
		{[]string{"frobnicate"}, "frobnicate: no such command", "--help"},
		{[]string{"ppp", "mt 552"}, "mt 552: no such command", ""},
		{[]string{"initiate"}, "initiate: no such command", ""},
		{[]string{"initiate-option"}, "initiate-option: no such command", "perhaps initiate-options"},
		{[]string{"compress"}, "compress: " + onlyPPP, "pppd"},
		{[]string{"add exec /bin/sh:23"}, "add exec: " + noPrograms, "sshd"},
		{[]string{"add", "ptyexec"}, "add: no such command", ""},
		{[]string{"shell /bin/sh"}, "shell: " + noPrograms, ""},
		{[]string{"-l", "0"}, "-l: " + noSocket, "bodkin up"},
		{[]string{"redir X"}, "redir X: no free display is looked for", "6001"},
		{[]string{"password secret"}, "password: there is nothing here that asks for one, and every user of this host could read it", ""},
		{[]string{"mtu"}, "mtu: wants N behind it", `"mtu N"`},
		{[]string{"mtu 12"}, "mtu 12: a number from 128 to 16384 is wanted", ""},
		{[]string{"mtu 552 553"}, "mtu 552 553: too much behind it", ""},
		{[]string{"redir", "5555", "80"}, "redir: wants PORT [ADDR:]LPORT behind it", "quote it"},
		{[]string{"redir once udp 1 2"}, "redir once udp 1 2: once is for tcp, and time for udp", ""},
		{[]string{"redir time 1 2"}, "redir time 1 2: once is for tcp, and time for udp", ""},
		{[]string{"redir 0 80"}, `redir 0 80: "0" is no port, nor a service of tcp that this host knows`, ""},
		{[]string{"redir 5555 nntps"}, `redir 5555 nntps: "nntps" is no port, nor a service of tcp that this host knows`, ""},
		{[]string{"redir 5555 127.0.0.1:80"}, "redir 5555 127.0.0.1:80: 127.0.0.1 is no address of IPv4 inside", ""},
		{[]string{"redir 5555 10.0.2.2:80"}, "redir 5555 10.0.2.2:80: 10.0.2.2 is this NAT's own address", "10.0.2.15"},
		{[]string{"redir 1 2 3"}, "redir 1 2 3: a port and where it leads are wanted", "redir 5555 80"},
		{[]string{"special addr 10.0.2.1"}, "special addr 10.0.2.1: 10.0.2.1 is no network's address that ends in 0", ""},
		{[]string{"dns 1.2.3.4", "dns 1.2.3.5", "dns 1.2.3.6"}, "dns 1.2.3.6: there is place for two", ""},
		{[]string{"escape 7e"}, "", ""},
		{[]string{"escape 30"}, "escape 30: 0x30 cannot be escaped: what stands for it would be a flag or an escape (RFC 1662, section 4.2)", ""},
		{[]string{"escape 5e"}, "escape 5e: 0x5e cannot be escaped: what stands for it would be a flag or an escape (RFC 1662, section 4.2)", ""},
		{[]string{"escape 15-11"}, "escape 15-11: 15-11: a range that ends before it begins", ""},
		{[]string{"escape 1ff"}, "escape 1ff: 1ff is no octet in hexadecimal", ""},
		{[]string{"-am", "asyncmap 1"}, "-am and asyncmap: not spoken of, and set", ""},
		{[]string{"allow world"}, "allow world: world", "host and link-local"},
		{[]string{"config /a"}, "config /a: /a:2: mtu tiny: a number from 128 to 16384 is wanted", ""},
		{[]string{"config /nowhere"}, "config /nowhere: /nowhere: file does not exist", ""},
		{[]string{"config /c"}, `config /c: /c:1: "mtu 5\x1b[2J52": a number from 128 to 16384 is wanted`, ""},
		{[]string{"config /d"}, "config /d: /d: more than 1048576 octets", ""},
		{[]string{"config /e"}, "redir 5555 81: tcp port 5555 leads to 10.0.2.15:80 already", ""},
		{[]string{"\x00"}, "a command with a NUL", ""},
	} {
		_, err := Parse(c.args, files.system())
		if c.want == "" {
			if err != nil {
				t.Errorf("%q: %v", c.args, err)
			}
			continue
		}
		var known *config.Error
		if !errors.As(err, &known) || err.Error() != c.want || !strings.Contains(known.Hint, c.hint) {
			t.Errorf("%q:\n%v (%+v), want\n%s (%s)", c.args, err, known, c.want, c.hint)
		}
	}
	if _, err := Parse([]string{"-f", "/b"}, files.system()); err == nil || !strings.Contains(err.Error(), "to a depth of 8") {
		t.Errorf("a file that names itself: %v", err)
	}
}

// slirpHelp are all commands that `slirp help` of 1.0.17 lists.
const slirpHelp = `redir X,show X,redir,special addr,control addr,compress,host addr,add exec,add ptyexec,add emu,shell,debug,
socket,log stats,config,log start,dns,help,-h,echo,kill,close,stats,exec,ptyexec,unit,wait,quit,password,keepalive,version,
towrite_max,tty,nozeros,ppp,ppp_exit,-all,-ac,-am,asyncmap,debugppp,-ip,-mn,-mru,-pc,+ua,+pap,-pap,+chap,-chap,-vj,-vjccomp,
vj-max-slots,escape,domain,mru,mtu,initiate-options,name,user,usehostname,remotename,auth,proxyarp,login,lcp-echo-failure,
lcp-echo-interval,lcp-restart,lcp-max-terminate,lcp-max-configure,lcp-max-failure,ipcp-restart,ipcp-max-terminate,
ipcp-max-configure,ipcp-max-failure,pap-restart,pap-max-authreq,pap-timeout,chap-restart,chap-max-challenge,chap-interval,
ipcp-accept-local,ipcp-accept-remote,bsdcomp,-bsdcomp,papcrypt`

func TestEveryCommandOfSlirpIsKnown(t *testing.T) {
	for name := range strings.SplitSeq(slirpHelp, ",") {
		words := strings.Fields(name)
		if c, rest := find(words); c == nil || len(rest) > 0 {
			t.Errorf("%q is not known", words)
		}
	}
	seen := map[string]bool{}
	for _, g := range table {
		for _, c := range g.commands {
			if seen[c.name] || c.help == "" || (c.set == nil) != (c.way != taken) {
				t.Errorf("%+v", c)
			}
			seen[c.name] = true
		}
	}
}

func TestDescribe(t *testing.T) {
	all := Describe("")
	if len(all) < 6 || !slices.ContainsFunc(all, func(g Group) bool {
		return slices.Contains(g.Commands, Described{"asyncmap", "asyncmap HEX, -as", "the peer escapes these control characters (0)"})
	}) {
		t.Errorf("%+v", all)
	}
	if got := Describe("redir"); len(got) != 2 || got[0].Commands[0].Name != "redir PORT [ADDR:]LPORT" {
		t.Errorf("%+v", got)
	}
}

// FuzzParse: whatever stands there, errors are config errors in one printable
// line, and what is taken can be acted on.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"ppp\nmtu 552", "-P\n-as\n0", "redir once 5555 to 10.0.2.15:ftp\nspecial addr 10.0.3.0", "escape ff,1-4\nwait 3", "config /f\nhelp redir"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, line, file string) {
		args := strings.Split(line, "\n")
		o, err := Parse(args, disk{"/f": file, "/home/me/.slirprc": file}.system())
		if err != nil {
			var known *config.Error
			if !errors.As(err, &known) {
				t.Fatalf("%T", err)
			}
			for _, r := range err.Error() + known.Hint {
				if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
					t.Fatalf("not printable: %q", err)
				}
			}
			return
		}
		for _, r := range o.Redirects {
			if !r.Listen.IsValid() || r.Listen.Port() == 0 || r.To.Port() == 0 || !within(r.To.Addr()) || r.Once && r.Network != "tcp" {
				t.Fatalf("%+v", r)
			}
		}
		if !o.Special.Contains(o.Peer()) || o.Wait < 0 || len(o.DNS) > 2 || o.MTU != 0 && o.MTU < 128 {
			t.Fatalf("%+v", o)
		}
		for b := 0x20; b <= 0x3f; b++ {
			if o.Escape[b] {
				t.Fatalf("%#x is escaped", b)
			}
		}
		again, err := Parse(args, disk{"/f": file, "/home/me/.slirprc": file}.system())
		if err != nil || !reflect.DeepEqual(o, again) {
			t.Fatalf("twice: %v", err)
		}
	})
}
