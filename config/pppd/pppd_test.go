package pppd

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

// disk is a machine whose option files are these.
type disk map[string]string

func (f disk) Open(name string) (io.ReadCloser, error) {
	text, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

func (f disk) system() System {
	return System{Open: f.Open, Home: "/home/me", IsDevice: func(path string) bool { return path == "/dev/ttyS0" || path == "/dev/modem" }}
}

func parse(t *testing.T, f disk, line string) *Options {
	t.Helper()
	o, err := Parse(arguments(t, line), f.system())
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return o
}

// arguments cuts a line of a test as a shell would.
func arguments(t *testing.T, line string) (args []string) {
	t.Helper()
	words, err := split(line)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range words {
		args = append(args, w.text)
	}
	return args
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestWords: what pppd 2.4.9 itself makes of the same files (dryrun).
func TestWords(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"  # nothing\n\t\n", nil},
		{"ipparam a#b\nlock", []string{"ipparam", "a", "lock"}},
		{`'a b' "c'd" e"f g"h`, []string{"a b", "c'd", "ef gh"}},
		{`a\ b\x41\101\n\s\t\q"x y"z`, []string{"a bAA\n \tqx yz"}},
		{"a\\\nb c\\\n\n d", []string{"ab", "c", "d"}},
		{`"a\"b" '' x\#y "#"`, []string{`a"b`, "", "x#y", "#"}},
		{"\"a\nb\"", []string{"a\nb"}},
		{`\x4 \x4g \7z \1011`, []string{"\x04", "\x04g", "\x07z", "A1"}},
		{"\\\n  a \\\n", []string{"a"}},
	} {
		words, err := split(c.text)
		var got []string
		for _, w := range words {
			got = append(got, w.text)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q is cut into %q, %v; want %q", c.text, got, err, c.want)
		}
	}
	for text, want := range map[string]string{
		"a\nb 'c":                          "2: the quote ' is not closed",
		`a\`:                               "1: a backslash ends the file",
		"a\x00":                            "1: a NUL is no text",
		`a\0`:                              "1: a NUL is no text",
		strings.Repeat("x", maxWord+1):     "1: a word of more than 1024 octets",
		"'" + strings.Repeat("x", maxWord): "1: the quote ' is not closed",
	} {
		if words, err := split(text); err == nil || err.Error() != want {
			t.Errorf("%.20q: %v, %v; want %s", text, words, err, want)
		}
	}
}

func TestParse(t *testing.T) {
	f := disk{
		"/etc/ppp/peers/isp":     "# an ISP\n/dev/modem 115200\ncrtscts lock\nconnect \"/usr/sbin/chat -v -f '/etc/my isp'\"\nuser me@isp noauth\nfile /etc/ppp/more\n",
		"/etc/ppp/more":          "password \"a secret\" persist\nholdoff 5",
		"/etc/ppp/options":       "auth mru 1400 silent",
		"/home/me/.ppprc":        "mru 1300",
		"/etc/ppp/options.ttyS0": "mtu 1200",
	}
	for _, c := range []struct {
		line string
		want func(o *Options)
	}{
		{"", func(o *Options) {}},
		{"notty", func(o *Options) { o.Line.Kind = LineStdio }},
		{"ttyS0 38400 local nocrtscts", func(o *Options) {
			o.Line = Line{Kind: LineDevice, Device: "/dev/ttyS0", Speed: 38400, Local: On, CRTSCTS: Off, ConnectDelay: time.Second}
		}},
		{"/some/where", func(o *Options) { o.Line.Kind, o.Line.Device = LineDevice, "/some/where" }},
		{"pty 'ssh -t gw slirp ppp' connect-delay 0", func(o *Options) {
			o.Line = Line{Kind: LinePTY, Command: "ssh -t gw slirp ppp"}
		}},
		{"pipe x", func(o *Options) { o.Line.Kind, o.Line.Command = LinePipe, "x" }},
		{"socket [::1]:99", func(o *Options) { o.Line.Kind, o.Line.Socket = LineSocket, "[::1]:99" }},
		{"asyncmap 0x1 asyncmap a0000", func(o *Options) { o.LCP.ACCM = 0xa0001 }},
		{"xonxoff escape ff,1d", func(o *Options) {
			o.Line.XONXOFF, o.LCP.ACCM = true, 0xa0000
			o.LCP.Escape = [256]bool{0x11: true, 0x13: true, 0x1d: true, 0xff: true}
		}},
		{"-am -ac -pc -mn receive-all", func(o *Options) {
			o.LCP.NoACCM, o.LCP.NoACFC, o.LCP.NoPFC, o.LCP.NoMagic, o.LCP.ReceiveAll = true, true, true, true, true
		}},
		{"mru 0x200 mtu 010000", func(o *Options) { o.LCP.MRU, o.LCP.MTU = 512, 4096 }},
		{"mru 600 default-mru", func(o *Options) {}},
		{"lcp-echo-interval 30 lcp-echo-failure 4 lcp-restart 1 lcp-max-configure 2 lcp-max-terminate 3 lcp-max-failure 4", func(o *Options) {
			o.LCP.EchoInterval, o.LCP.EchoFailure = 30*time.Second, 4
			o.LCP.Timers = Timers{time.Second, 2, 3, 4}
		}},
		{"10.0.0.1: :10.0.0.2 ms-dns 1.1.1.1 ms-dns 9.9.9.9", func(o *Options) {
			o.IPv4.Local, o.IPv4.Remote = addr("10.0.0.1"), addr("10.0.0.2")
			o.IPv4.DNS = []netip.Addr{addr("1.1.1.1"), addr("9.9.9.9")}
		}},
		{"0.0.0.0:10.0.0.2", func(o *Options) { o.IPv4.Remote = addr("10.0.0.2") }},
		{"ipv6 ::dead:beef,fe80::2", func(o *Options) {
			o.IPv6.Want, o.IPv6.Local, o.IPv6.Remote = On, 0xdeadbeef, 2
		}},
		{"+ipv6 noipv6", func(o *Options) { o.IPv6.Want = Off }},
		{"defaultroute nodefaultroute usepeerdns", func(o *Options) { o.IPv4.UsePeerDNS = true }},
		{"replacedefaultroute defaultroute6 unit 7", func(o *Options) {
			o.Host.DefaultRoute, o.Host.DefaultRoute6, o.Host.Interface = true, true, "ppp7"
		}},
		{"require-chap +pap refuse-pap name a user b remotename c", func(o *Options) {
			o.Auth = Auth{Want: WantAuth, RequireCHAP: true, RequirePAP: true, RefusePAP: true, Name: "a", User: "b", RemoteName: "c"}
		}},
		{"require-chap noauth", func(o *Options) { o.Auth.Want = WantNone }},
		{"noauth require-chap", func(o *Options) { o.Auth.Want, o.Auth.RequireCHAP = WantAuth, true }},
		{"persist maxfail 0 holdoff 0 idle 60 maxconnect 3600 updetach", func(o *Options) {
			o.Life.Persist, o.Life.MaxFail, o.Life.Holdoff = true, 0, 0
			o.Life.Idle, o.Life.MaxConnect, o.Life.UpDetach = time.Minute, time.Hour, true
		}},
		{"updetach up_sdnotify", func(o *Options) { o.Life.SDNotify = true }},
		{"set A=b=c unset D linkname x ipparam ''", func(o *Options) {
			o.Life.Set, o.Life.Unset, o.Life.LinkName = []string{"A=b=c"}, []string{"D"}, "x"
		}},
		{"-d dump logfd 2 nolog logfile x", func(o *Options) { o.Log = Log{Debug: true, Dump: true, File: "x", FD: -1} }},
		{"nat scripts", func(o *Options) { o.Host.NAT, o.Host.Scripts = true, On }},
		{"lock novj -vj", func(o *Options) {
			o.Notes = []string{"lock is ignored: no lock files are made; a device is opened for us alone",
				"novj is ignored: headers are not compressed in any case", "-vj is ignored: headers are not compressed in any case"}
		}},
		{"call isp holdoff 7", func(o *Options) {
			o.Line = Line{Kind: LineDevice, Device: "/dev/modem", Speed: 115200, CRTSCTS: On, ConnectDelay: time.Second,
				Connect: "/usr/sbin/chat -v -f '/etc/my isp'"}
			o.Auth = Auth{Want: WantNone, User: "me@isp", Password: "a secret", HasPassword: true}
			o.Life.Persist, o.Life.Holdoff, o.Life.CallFile = true, 7*time.Second, "isp"
			o.Notes = []string{"lock is ignored: no lock files are made; a device is opened for us alone"}
		}},
		{"system-options ttyS0 noauth", func(o *Options) {
			o.Line.Kind, o.Line.Device = LineDevice, "/dev/ttyS0"
			o.Auth.Want, o.LCP.MRU, o.LCP.MTU, o.LCP.Silent = WantNone, 1300, 1200, true
		}},
	} {
		got := parse(t, f, c.line)
		got.Settings = nil
		want := defaults()
		c.want(&want)
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s\n got %+v\nwant %+v", c.line, *got, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	f := disk{
		"/etc/ppp/peers/loop": "call loop",
		"/etc/ppp/peers/bad":  "noauth\n\n  mru 12\n",
		"typo":                "lcp-echo-intervall 3",
		"quote":               "a\n\nuser \"x",
		"last":                "noauth\nmru",
		"secret":              "password \"x\" password",
		"system":              "system-options",
		"huge":                strings.Repeat("a", maxFile+1),
	}
	for _, c := range []struct{ line, want, hint string }{
		{"foo", "foo is no option", "bodkin ppp --help lists the options"},
		{"persit", "persit is no option", "did you mean persist?"},
		{"'a\nb\x1b'", `a\x0ab\x1b is no option`, "bodkin ppp --help lists the options"},
		{"mru", "mru: wants N behind it", ""},
		{"mru 12", "mru 12: want 128 to 16384", ""},
		{"mru 1e3", "mru 1e3: not a number", ""},
		{"lcp-echo-interval -5", "lcp-echo-interval -5: want 0 to 2147483647", ""},
		{"escape 30", "escape 30: 30 cannot be escaped: RFC 1662 leaves no way to write it", ""},
		{"escape ff,5e", "escape ff,5e: 5e cannot be escaped: RFC 1662 leaves no way to write it", ""},
		{"asyncmap zz", "asyncmap zz: not 32 bits in hexadecimal", "write it as a0000"},
		{"gw:10.0.0.1", "gw is not an IPv4 address", "write addresses as numbers, LOCAL:REMOTE, for example 10.0.2.2:10.0.2.15"},
		{"127.0.0.1:", "127.0.0.1 is not an address that an end of a link can have", ""},
		{"10.0.0.1:10.0.0.1", "both ends have the address 10.0.0.1", "write LOCAL:REMOTE"},
		{"ms-dns 1.1.1.1 ms-dns 1.1.1.1 ms-dns 1.1.1.1", "ms-dns 1.1.1.1: the third: IPCP carries two (RFC 1877)", "leave one out"},
		{"ipv6 2001:db8::1", "ipv6 2001:db8::1: 2001:db8::1 has more than the 64 bits of an interface identifier", "write it as ::1,::2"},
		{"password x", "password ??????: a password on the command line can be read by everybody on this machine",
			"put it into a file for `file` or `call`, or into /etc/ppp/pap-secrets or chap-secrets"},
		{"plugin rp-pppoe.so", "plugin: there are no plugins; PPPoE, PPTP and L2TP need pppd itself", ""},
		{"require-mppe", "require-mppe: MPPE's RC4 protects nothing today; carry the link over ssh", ""},
		{"notty pty x", "pty x: the line cannot be both notty and pty", "leave one of them out"},
		{"notty ttyS0", "the line cannot be both /dev/ttyS0 and notty", "leave one of them out"},
		{"nodefaultroute defaultroute", "defaultroute: an option before it rules it out", ""},
		{"nat defaultroute", "nat and defaultroute: nat makes this machine the way out for the peer, defaultroute the peer the way out for this machine",
			"leave out nat to send this machine's packets through the link, or defaultroute to serve the peer"},
		{"noip noipv6", "noip and noipv6: nothing is left to carry", ""},
		{"logfd 2 logfile x", "logfile and logfd: only one of them", ""},
		{"ifname a/b", "ifname a/b: want 1 to 15 letters, digits, dots, hyphens and underscores", ""},
		{"linkname ../x", "linkname ../x: a name without / that does not begin with a dot", ""},
		{"socket gw", "socket gw: not a TCP address", "write it as host:port"},
		{"set 1=2", "set 1=2: not a variable", "write it as NAME=value"},
		{"call ../x", "call ../x: not a name without a leading / and without ..", "name a file below /etc/ppp/peers"},
		{"call none", "call none: open /etc/ppp/peers/none: file does not exist", ""},
		{"call loop", "/etc/ppp/peers/loop:1: call loop: files that name files, more than 8 deep", ""},
		{"noauth call bad", "/etc/ppp/peers/bad:3: mru 12: want 128 to 16384", ""},
		{"file typo", "typo:1: lcp-echo-intervall is no option", "did you mean lcp-echo-interval?"},
		{"file quote", "quote:3: the quote \" is not closed", ""},
		{"file last", "last:2: mru: wants N behind it", ""},
		{"file secret", "secret:1: password: wants WORD behind it", ""},
		{"file huge", "file huge: huge is larger than 262144 octets", ""},
		{"file system", "system:1: system-options: only as the first word of the command line", ""},
		{"noauth system-options", "system-options: only as the first word of the command line", ""},
	} {
		o, err := Parse(arguments(t, c.line), f.system())
		var said *config.Error
		if !errors.As(err, &said) {
			t.Errorf("%s: %+v, %v", c.line, o, err)
			continue
		}
		if said.Reason != c.want || said.Hint != c.hint {
			t.Errorf("%s\n got %s (%s)\nwant %s (%s)", c.line, said.Reason, said.Hint, c.want, c.hint)
		}
	}
}

func TestDump(t *testing.T) {
	f := disk{"x": "password 'top secret'\nconnect 'chat \"\"'"}
	const want = `notty		# (from command line)
password ??????		# (from x:1)
connect "chat \"\""		# (from x:2)
10.0.0.1:		# (from command line)
`
	if got := parse(t, f, "notty file x 10.0.0.1:").Dump(); got != want {
		t.Errorf("dumped\n%swant\n%s", got, want)
	}
}

// TestTable: every entry does what its kind says, and no name stands twice.
func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range table {
		for _, name := range append([]string{o.name}, o.aliases...) {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if o.help == "" || (o.set != nil) != (o.way == accepted) {
			t.Errorf("%s: help %q, way %d, set %v", o.name, o.help, o.way, o.set != nil)
		}
	}
	for _, g := range Describe() {
		if len(g.Options) == 0 {
			t.Errorf("%q has no options", g.Title)
		}
	}
}

// FuzzParse: options that are accepted, written as a file, are accepted from there
// and mean the same.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"notty 10.0.0.1:10.0.0.2 noauth",
		"pty \"ssh -t gw 'slirp ppp'\" escape ff asyncmap 200a0000",
		"password 'a\\\\\\\"b' # secret\n set A=1",
		"system-options mru 1500",
		"file x call y",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		system := disk{"first": text}.system()
		o, err := Parse([]string{"file", "first"}, system)
		if err != nil {
			if o != nil || err.Error() == "" {
				t.Fatalf("%+v, %v", o, err)
			}
			return
		}
		var again strings.Builder
		for _, s := range o.Settings {
			again.WriteString(s.write(false) + "\n")
		}
		system = disk{"again": again.String()}.system()
		back, err := Parse([]string{"file", "again"}, system)
		if err != nil {
			t.Fatalf("%q is accepted, but not when written as %q: %v", text, again.String(), err)
		}
		back.Settings, o.Settings = nil, nil
		if !reflect.DeepEqual(o, back) {
			t.Fatalf("%q means %+v, but written as %q %+v", text, o, again.String(), back)
		}
	})
}

// FuzzQuote: what Quote writes is one word, printable, and reads back.
func FuzzQuote(f *testing.F) {
	for _, seed := range []string{"", "a b", `"\`, "#", "'", "\x00", "\xff\n", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, w string) {
		q := Quote(w)
		if strings.IndexFunc(q, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 {
			t.Fatalf("%q is quoted as %q, which is not printable", w, q)
		}
		words, err := split(q)
		if strings.IndexByte(w, 0) >= 0 || len(w) > maxWord {
			if err == nil {
				t.Fatalf("%q was read back", w)
			}
			return
		}
		if err != nil || len(words) != 1 || words[0].text != w {
			t.Fatalf("%q is quoted as %s, which reads as %v, %v", w, q, words, err)
		}
	})
}
