package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// A Scheme is what kind of hop one is.
type Scheme string

// The schemes. Those of the first group have an address, and what stands behind
// it; those of the second are programs and files of this machine's.
const (
	SSH     Scheme = "ssh"     // an sshd: a login, or at the way's side a jump host
	Telnet  Scheme = "telnet"  // a telnet server and its login, or at the way's side a telnet proxy
	HTTP    Scheme = "http"    // a web proxy, asked by CONNECT
	HTTPS   Scheme = "https"   // a web proxy that is spoken to in TLS
	SOCKS5  Scheme = "socks5"  //
	SOCKS4a Scheme = "socks4a" //
	TLS     Scheme = "tls"     // our own far half that waits in TLS; at the way's side a TLS server that leads on
	Bodkin  Scheme = "bodkin"  // our own far half that waits at the end of any way at all
	WSS     Scheme = "wss"     // our own far half behind a web server, by WebSocket
	WS      Scheme = "ws"      // the same without the web's TLS
	TCP     Scheme = "tcp"     // a bare connection, for measurements alone
	Served  Scheme = "served"  // a client that the `bodkin serve` of this machine serves, by its name

	Cmd  Scheme = "cmd"  // a program on pipes
	TTY  Scheme = "tty"  // a program on a terminal
	Chat Scheme = "chat" // a chat script, for the connection that is there already
)

// A Hop is one step of the way to the far side, or its end, the target.
type Hop struct {
	Scheme  Scheme
	User    string // empty: as ssh decides, or none
	Host    string // a name, for ssh an alias of ssh_config, or an address
	Port    int    // 0: as ssh decides
	Command string // of Cmd and TTY: the command line; of Chat: the script's file

	Connect string // of a telnet proxy: what is typed to be connected, with %h and %p; empty: "c %h %p"
	Relay   string // of a telnet proxy, to what speaks no telnet: "raw" octets, or still in "telnet"; empty: raw
	Basic   bool   // of a web proxy: the password may go to it readable for all between
	CA      string // of HTTPS and TLS: a file of certificates to believe besides the system's
	Path    string // of WSS and WS: where the web server has the far half, with its slash
}

// ports are what a scheme's port is when none is given; 0: it must be, or ssh decides.
var ports = map[Scheme]int{Telnet: 23, HTTP: 3128, HTTPS: 443, SOCKS5: 1080, SOCKS4a: 1080, TLS: 443, WSS: 443, WS: 80}

// webPath is where a web server has the far half unless another path is given.
const webPath = "/tunnel"

// queries are the words after the question mark that a scheme knows.
var queries = map[Scheme][]string{Telnet: {"connect", "relay"}, HTTP: {"auth"}, HTTPS: {"auth", "ca"}, TLS: {"ca"}}

// Local reports whether the hop is a program or a file of this machine's, that
// knows by itself where it leads.
func (h Hop) Local() bool { return h.Scheme == Cmd || h.Scheme == TTY || h.Scheme == Chat }

// Address is where the hop is, "host:port", with an IPv6 address in brackets.
func (h Hop) Address() string { return net.JoinHostPort(h.Host, strconv.Itoa(h.Port)) }

// Authority is the host, with the port where that is not the scheme's own (RFC 3986,
// section 3.2).
func (h Hop) Authority() string {
	host := h.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if h.Port != 0 && h.Port != ports[h.Scheme] {
		host += ":" + strconv.Itoa(h.Port)
	}
	return host
}

// Web reports whether the hop is a far half behind a web server.
func (h Hop) Web() bool { return h.Scheme == WSS || h.Scheme == WS }

// Place names the hop for people, and says whose password is asked for.
func (h Hop) Place() string {
	if h.Local() {
		return h.Command
	}
	at := h.Host
	if h.Port != 0 && h.Port != ports[h.Scheme] {
		at = h.Address()
	}
	if h.User != "" {
		at = h.User + "@" + at
	}
	return at
}

// String is the hop as it was written, as far as it has no defaults.
func (h Hop) String() string {
	if h.Local() {
		return string(h.Scheme) + ":" + h.Command
	}
	if h.Scheme == Served {
		return string(h.Scheme) + ":" + h.Host
	}
	s := h.Host
	if strings.Contains(s, ":") && (h.Port != 0 || h.Scheme != SSH) {
		s = "[" + s + "]"
	}
	if h.Port != 0 && h.Port != ports[h.Scheme] {
		s += ":" + strconv.Itoa(h.Port)
	}
	if h.User != "" {
		s = h.User + "@" + s
	}
	if h.Scheme != SSH {
		s = string(h.Scheme) + "://" + s
	}
	if h.Web() && h.Path != webPath {
		s += h.Path
	}
	q := url.Values{}
	for key, value := range map[string]string{"connect": h.Connect, "relay": h.Relay, "ca": h.CA} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if h.Basic {
		q.Set("auth", "basic")
	}
	if len(q) > 0 {
		s += "?" + q.Encode()
	}
	return s
}

// What users and hosts may look like: neither begins with a dash, and neither
// holds anything that a shell, ssh's percent expansion or a proxy's prompt would
// act on.
var (
	userPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_.])?$`)
)

// What a path of a web server, and the name of a served client, may look like.
var (
	pathPattern   = regexp.MustCompile(`^/[A-Za-z0-9._~%/-]{1,200}$`)
	clientPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?$`)
)

// ParseTarget reads where a tunnel goes: [user@]host[:port] for ssh, a URL, or
// cmd:PROGRAM and tty:PROGRAM for a program that shows a shell.
func ParseTarget(s string) (Hop, error) {
	const hint = "write it as [user@]host[:port], for example me@gw.example.org or me@[2001:db8::22]:2222; with telnet://, tls://, wss:// or bodkin:// before it; or as cmd:PROGRAM"
	if name, ok := strings.CutPrefix(s, string(Served)+":"); ok {
		if !clientPattern.MatchString(name) {
			return Hop{}, refuse("`bodkin serve status` says who is there", "%q is no name of a served client", name)
		}
		return Hop{Scheme: Served, Host: name}, nil
	}
	h, err := parseHop(s, hint)
	switch {
	case err != nil:
		return h, err
	case h.Scheme == HTTP, h.Scheme == HTTPS, h.Scheme == SOCKS5, h.Scheme == SOCKS4a:
		return h, refuse("--via "+s+" and then the server to reach through it", "%s is a proxy, and no place where a far side can be", h)
	case h.Scheme == Chat:
		return h, refuse("--chat FILE logs in with a script", "%s is a script, and no place where a far side can be", h)
	}
	return h, nil
}

// ParseVia reads one hop on the way to the target.
func ParseVia(s string) (Hop, error) {
	const hint = "there are http://, https://, socks5://, socks4a://, telnet://, ssh:// and tls:// with [user@]host[:port], and cmd:PROGRAM, tty:PROGRAM, chat:FILE"
	if !strings.Contains(s, ":") {
		return Hop{}, refuse(hint, "--via %q does not say what it is", s)
	}
	h, err := parseHop(s, hint)
	switch {
	case err != nil:
		return h, err
	case h.Scheme == SSH && !strings.HasPrefix(s, "ssh://"):
		return h, refuse(hint, "--via %q does not say what it is", s)
	case h.Scheme == Bodkin, h.Scheme == TCP, h.Web():
		return h, refuse(hint, "%s leads nowhere further", h)
	}
	return h, nil
}

func parseHop(s, hint string) (Hop, error) {
	for _, local := range []Scheme{Cmd, TTY, Chat} {
		if rest, ok := strings.CutPrefix(s, string(local)+":"); ok {
			h := Hop{Scheme: local, Command: strings.TrimSpace(rest)}
			switch {
			case h.Command == "":
				return h, refuse(hint, "%q names nothing", s)
			case strings.ContainsFunc(h.Command, func(r rune) bool { return r < ' ' || r == 0x7f }):
				return h, refuse("put it on one line", "%q: control characters", s)
			}
			return h, nil
		}
	}
	h := Hop{Scheme: SSH}
	rest := s
	if scheme, after, ok := strings.Cut(s, "://"); ok {
		switch h.Scheme = Scheme(strings.ToLower(scheme)); h.Scheme {
		case SSH, Telnet, HTTP, HTTPS, SOCKS5, SOCKS4a, TLS, Bodkin, TCP, WSS, WS:
		case "socks", "socks5h":
			h.Scheme = SOCKS5
		case "socks4":
			return h, refuse("socks4a:// lets the proxy look up names; socks5:// is newer", "%q: socks4 knows addresses only", s)
		default:
			return h, refuse(hint, "%q: no such kind of hop", scheme+"://")
		}
		if h.Web() {
			var err error
			if after, err = h.parsePath(after); err != nil {
				return h, err
			}
		}
		var err error
		if rest, err = h.parseQuery(strings.TrimSuffix(after, "/")); err != nil {
			return h, err
		}
	}
	if err := h.parseAddress(s, rest, hint); err != nil {
		return h, err
	}
	if h.Port == 0 {
		h.Port = ports[h.Scheme]
	}
	if h.Port == 0 && h.Scheme != SSH {
		return h, refuse(fmt.Sprintf("write %s://host:port", h.Scheme), "%q has no port", s)
	}
	return h, nil
}

// parsePath takes the path out of a URL.
func (h *Hop) parsePath(rest string) (string, error) {
	h.Path = webPath
	host, path, ok := strings.Cut(rest, "/")
	if !ok || path == "" {
		return host, nil
	}
	h.Path = "/" + path
	if !pathPattern.MatchString(h.Path) {
		return host, refuse("letters, digits and - . _ ~ % / make a path", "%q: a path with other characters", h.Path)
	}
	return host, nil
}

// parseQuery takes what follows a question mark from the rest of a URL.
func (h *Hop) parseQuery(rest string) (string, error) {
	rest, query, ok := strings.Cut(rest, "?")
	if !ok {
		return rest, nil
	}
	rest = strings.TrimSuffix(rest, "/")
	values, err := url.ParseQuery(query)
	if err != nil {
		return rest, refuse("write name=value&name=value, a blank as %20", "%q after the question mark", query)
	}
	for key, list := range values {
		if !hasWord(strings.Join(queries[h.Scheme], " "), key) || len(list) != 1 {
			hint := "leave it out"
			if known := queries[h.Scheme]; len(known) > 0 {
				hint = "there is " + strings.Join(known, ", ") + ", each once"
			}
			return rest, refuse(hint, "%s:// and %q", h.Scheme, key)
		}
		value := list[0]
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return rest, refuse("", "%s=%q: control characters", key, value)
		}
		switch key {
		case "connect":
			if !strings.Contains(value, "%h") {
				return rest, refuse("for example connect=c%20%25h%20%25p: %h is the host and %p the port", "connect=%s names no host", value)
			}
			h.Connect = value
		case "relay":
			if value != "raw" && value != "telnet" {
				return rest, refuse("relay=raw or relay=telnet", "relay=%s", value)
			}
			h.Relay = value
		case "ca":
			h.CA = value
		case "auth":
			if value != "basic" {
				return rest, refuse("auth=basic lets the password go to the proxy readable; Digest and NTLM need no word", "auth=%s", value)
			}
			h.Basic = true
		}
	}
	return rest, nil
}

// parseAddress reads [user@]host[:port]. An IPv6 address with a port stands in
// brackets.
func (h *Hop) parseAddress(whole, rest, hint string) error {
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		h.User, rest = rest[:at], rest[at+1:]
		if name, _, found := strings.Cut(h.User, ":"); found {
			h.User = name
			return refuse("leave it out of the command line, where others see it: it is asked for, or see --password", "a password in %s://%s:...@", h.Scheme, name)
		}
		name := h.User
		if h.Scheme == HTTP || h.Scheme == HTTPS { // a domain's, for NTLM
			if domain, after, ok := strings.Cut(name, `\`); ok && userPattern.MatchString(domain) {
				name = after
			}
		}
		if !userPattern.MatchString(name) {
			return refuse("others can be given by User in ssh_config", "%q is not a user's name of letters, digits and . _ @ + -", h.User)
		}
	}
	h.Host, rest = rest, ""
	if inner, ok := strings.CutPrefix(h.Host, "["); ok {
		if h.Host, rest, ok = strings.Cut(inner, "]"); !ok || (rest != "" && rest[0] != ':') {
			return refuse(hint, "%q is not a server", whole)
		}
	} else if strings.Count(h.Host, ":") == 1 {
		at := strings.IndexByte(h.Host, ':')
		h.Host, rest = h.Host[:at], h.Host[at:]
	}
	if rest != "" {
		port, err := strconv.ParseUint(rest[1:], 10, 16)
		if err != nil || port == 0 {
			return refuse(hint, "%q is not a port", rest[1:])
		}
		h.Port = int(port)
	}
	if addr, err := netip.ParseAddr(h.Host); err == nil {
		if addr.Zone() != "" {
			return refuse("name the interface in ssh_config (BindInterface)", "%q: an address with a zone", h.Host)
		}
	} else if !hostPattern.MatchString(h.Host) {
		return refuse(hint, "%q is not a host's name or address", h.Host)
	}
	return nil
}

// maxHops bounds the hops of one way: each costs a dialogue, and more than this is
// a mistake.
const maxHops = 8

// CheckWay refuses ways that lead nowhere.
func CheckWay(via []Hop, target Hop) error {
	if len(via) > maxHops {
		return refuse("", "%d hops on one way", len(via))
	}
	for i, h := range via {
		switch {
		case (h.Scheme == Cmd || h.Scheme == TTY) && i > 0:
			return refuse("put it first: it makes the connection by itself", "%s stands behind another hop", h)
		case h.Scheme == Chat && i == 0:
			return refuse("put what makes the connection before it, such as --via telnet://HOST", "%s has no connection to talk on", h)
		case h.Scheme == SSH && i > 0 && via[i-1].Local():
			return refuse("ssh's own ProxyCommand, in ssh_config, starts programs", "ssh as a hop behind %s", via[i-1])
		}
	}
	if (target.Scheme == Cmd || target.Scheme == TTY) && len(via) > 0 {
		return refuse("put it first with --via, and then the server that it leads to", "%s stands behind another hop", target)
	}
	return nil
}

// Shell reports whether the target shows a shell, in which the far side's program
// is started: by telnet, or by a program of this machine's.
func (h Hop) Shell() bool { return h.Scheme == Telnet || h.Scheme == Cmd || h.Scheme == TTY }

// checkWay refuses ways that lead nowhere, and what has no meaning with this one.
func (u *Up) checkWay() error {
	t := u.Target
	switch {
	case t.Scheme == TCP && len(u.Via) > 0:
		return refuse("bodkin://host:port is the same with protection", "%s is for measurements, with no hop before it", t)
	case u.Chat != "" && !t.Shell():
		return refuse("leave --chat out, or put chat:FILE on the way with --via", "--chat logs in to a shell, and %s shows none", t)
	case u.Silence < 0:
		return refuse("for example 20s; 0 is the usual", "--dialogue-timeout %v", u.Silence)
	case u.Become != "" && !t.Shell():
		return refuse("log in as root, or use sudo in the far side's forced command", "--become types into a shell, and %s shows none", t)
	case u.Become != "" && u.Become != "su" && u.Become != "sudo":
		return refuse("there are su and sudo", "--become %s", u.Become)
	case u.Open && t.Scheme == SSH:
		return refuse("leave it out", "--insecure-accept-eavesdropping: ssh proves who the far side is")
	case u.Far.Foreign() && t.Shell() && !u.Open:
		return refuse("--insecure-accept-eavesdropping accepts it; or let the way end in ssh", "--far %s over %s: what it carries goes unencrypted", u.Far, t.Scheme)
	case u.Far.Foreign() && (t.Scheme == TLS || t.Scheme == Bodkin || t.Scheme == Served || t.Web()):
		return refuse("leave --far out", "%s is a bodkin that waits, and has its own emulator", t)
	case t.Scheme == Served && len(u.Via) > 0:
		return refuse("leave --via out", "%s is reached by the server of this very machine", t)
	}
	switch u.Coding {
	case "", "auto", "clean", "escape", "armour":
	default:
		return refuse("there are auto, clean, escape and armour", "--line %s", u.Coding)
	}
	return CheckWay(u.Via, t)
}

// ParsePipeEnd reads where a byte pipe ends: host:port, or a TLS server.
func ParsePipeEnd(s string) (Hop, error) {
	if strings.HasPrefix(s, "tls://") {
		return ParseTarget(s)
	}
	const hint = "write host:port, as in gw.example.org:22"
	h := Hop{Scheme: TCP}
	if strings.Contains(s, "://") {
		return h, refuse(hint+", behind the hops", "%q is not where a pipe can end", s)
	}
	if err := h.parseAddress(s, s, hint); err != nil {
		return h, err
	}
	if h.Port == 0 || h.User != "" {
		return h, refuse(hint, "%q is not host:port", s)
	}
	return h, nil
}
