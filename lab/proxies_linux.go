package lab

import (
	"bytes"
	"context"
	"crypto/md5"
	"fmt"
	"slices"
	"strings"
)

// Ports of proxies, unless told otherwise.
const (
	SquidPort     = 3128
	TinyproxyPort = 8888
	SOCKSPort     = 1080
)

// ProxyOptions choose how a proxy of HTTP or SOCKS behaves. The zero value takes
// everyone, anywhere.
type ProxyOptions struct {
	Port           uint16   // 0 is the proxy's own
	User, Password string   // that it asks for; "" is none
	Ports          []uint16 // that it connects to; nil is all
}

// SquidOptions choose how squid behaves.
type SquidOptions struct {
	ProxyOptions

	// Schemes are how it lets User log in, "basic", "digest" or "ntlm", in the order it
	// offers them; nil is "basic". Its NTLM is a fake that takes whatever is well formed.
	Schemes []string

	// Certificate and Key, in PEM form, have it speak TLS with its clients; nil is without.
	Certificate, Key []byte
}

// squidDir holds what squid reads and writes.
const squidDir = "/var/lib/squid-lab"

// Squid starts the real squid as a proxy for CONNECT and plain HTTP, without a cache,
// and returns when it accepts connections.
func (m *Machine) Squid(ctx context.Context, o SquidOptions) (*Daemon, error) {
	if err := needProgram("/usr/sbin/squid", "squid"); err != nil {
		return nil, fmt.Errorf("lab: %s: starting squid: %w", m.Name, err)
	}
	if o.Port == 0 {
		o.Port = SquidPort
	}
	dir := fmt.Sprintf("%s/%d", squidDir, o.Port)
	listen := fmt.Sprintf("http_port %d", o.Port)
	if o.Certificate != nil {
		listen = fmt.Sprintf("https_port %d tls-cert=%s/tls.pem", o.Port, dir)
		if err := m.WriteFile(dir+"/tls.pem", slices.Concat(o.Certificate, o.Key), 0o600, "proxy"); err != nil {
			return nil, err
		}
	}
	lines := []string{
		listen,
		"visible_hostname " + m.Name,
		"pid_filename none",
		"cache deny all",
		"cache_mem 1 MB",
		"memory_pools off",
		"netdb_filename none",
		"coredump_dir none",
		"pinger_enable off",
		"access_log stdio:" + dir + "/access.log",
		"cache_store_log none",
		"cache_log " + dir + "/cache.log",
		"cache_effective_user proxy",
		"shutdown_lifetime 0 seconds",
		"hosts_file /etc/hosts",
		"dns_nameservers 127.0.0.1", // where none is: names are those of the file
		"dns_timeout 1 seconds",
		"connect_timeout 10 seconds",
		"forwarded_for off",
	}
	schemes := o.Schemes
	if schemes == nil {
		schemes = []string{"basic"}
	}
	if o.User == "" {
		schemes = nil
	}
	for _, scheme := range schemes {
		program, file, secret := "", dir+"/"+scheme, ""
		switch scheme {
		case "basic": // basic_ncsa_auth takes the MD5 of a password too
			program, secret = "/usr/lib/squid/basic_ncsa_auth "+file, fmt.Sprintf("%s:%x\n", o.User, md5.Sum([]byte(o.Password)))
		case "digest":
			program, secret = "/usr/lib/squid/digest_file_auth "+file, o.User+":"+o.Password+"\n"
			lines = append(lines, "auth_param digest realm lab")
		case "ntlm":
			program = "/usr/lib/squid/ntlm_fake_auth"
		default:
			return nil, fmt.Errorf("lab: %s: starting squid: no scheme %q", m.Name, scheme)
		}
		lines = append(lines, fmt.Sprintf("auth_param %s program %s", scheme, program), fmt.Sprintf("auth_param %s children 2 startup=1", scheme))
		if secret == "" {
			continue
		}
		if err := m.WriteFile(file, []byte(secret), 0o600, "proxy"); err != nil {
			return nil, err
		}
	}
	if o.Ports != nil {
		lines = append(lines, "acl ports port "+strings.Trim(fmt.Sprint(o.Ports), "[]"), "http_access deny !ports")
	}
	if schemes != nil {
		lines = append(lines, "acl known proxy_auth REQUIRED", "http_access allow known", "http_access deny all")
	} else {
		lines = append(lines, "http_access allow all")
	}
	// The directory is that of the account proxy, which squid becomes.
	if err := m.WriteFile(dir+"/squid.conf", []byte(strings.Join(lines, "\n")+"\n"), 0o644, "proxy"); err != nil {
		return nil, err
	}
	return m.startDaemon(ctx, loopback(o.Port), "/usr/sbin/squid", "-N", "-d", "1", "-f", dir+"/squid.conf")
}

// Tinyproxy starts the real tinyproxy, which knows Basic, and returns when it accepts
// connections.
func (m *Machine) Tinyproxy(ctx context.Context, o ProxyOptions) (*Daemon, error) {
	if err := needProgram("/usr/bin/tinyproxy", "tinyproxy"); err != nil {
		return nil, fmt.Errorf("lab: %s: starting tinyproxy: %w", m.Name, err)
	}
	if o.Port == 0 {
		o.Port = TinyproxyPort
	}
	lines := []string{
		fmt.Sprintf("Port %d", o.Port),
		"User proxy",
		"Group proxy",
		"Timeout 600",
		"MaxClients 100",
		"LogLevel Info",
	}
	if o.User != "" {
		lines = append(lines, fmt.Sprintf("BasicAuth %s %s", o.User, o.Password))
	}
	for _, port := range o.Ports {
		lines = append(lines, fmt.Sprintf("ConnectPort %d", port))
	}
	file := fmt.Sprintf("/etc/tinyproxy/lab-%d.conf", o.Port)
	if err := m.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600, "root"); err != nil {
		return nil, err
	}
	return m.startDaemon(ctx, loopback(o.Port), "/usr/bin/tinyproxy", "-d", "-c", file)
}

// Dante starts the real danted, which speaks SOCKS 4 and 5 (RFC 1928, RFC 1929), and
// returns when it accepts connections. Debian's, 1.4.2, never answers a request of
// SOCKS 4a. User is made an account of the machine that logs in nowhere else.
func (m *Machine) Dante(ctx context.Context, o ProxyOptions) (*Daemon, error) {
	if err := needProgram("/usr/sbin/danted", "dante-server"); err != nil {
		return nil, fmt.Errorf("lab: %s: starting danted: %w", m.Name, err)
	}
	if o.Port == 0 {
		o.Port = SOCKSPort
	}
	method := "none"
	if o.User != "" {
		method = "username"
		if err := m.addNobody(ctx, o.User, o.Password); err != nil {
			return nil, err
		}
	}
	links, err := m.netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("lab: %s: starting danted: %w", m.Name, err)
	}
	lines := []string{
		"logoutput: stderr",
		"user.privileged: root", // to read the passwords
		"user.unprivileged: proxy",
		fmt.Sprintf("internal: 0.0.0.0 port = %d", o.Port),
		fmt.Sprintf("internal: :: port = %d", o.Port),
	}
	for _, link := range links {
		lines = append(lines, "external: "+link.Attrs().Name)
	}
	lines = append(lines,
		"external.rotation: route",
		"clientmethod: none",
		"socksmethod: "+method,
		"client pass { from: 0/0 to: 0/0 log: error }",
	)
	const rule = "socks pass {\n from: 0/0 to: 0/0%s\n command: connect\n log: connect error\n}"
	if o.Ports == nil {
		lines = append(lines, fmt.Sprintf(rule, ""))
	}
	for _, port := range o.Ports {
		lines = append(lines, fmt.Sprintf(rule, fmt.Sprintf(" port = %d", port)))
	}
	file := fmt.Sprintf("/etc/danted-lab-%d.conf", o.Port)
	if err := m.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644, "root"); err != nil {
		return nil, err
	}
	return m.startDaemon(ctx, loopback(o.Port), "/usr/sbin/danted", "-f", file)
}

// addNobody gives the machine an account that owns nothing, with a password, unless
// it has it; then the password is changed.
func (m *Machine) addNobody(ctx context.Context, name, password string) error {
	err := m.Do(func() error { _, err := lookupAccount(name); return err })
	if err != nil {
		out, err := m.Command(ctx, "useradd", "--no-create-home", "--shell", "/usr/sbin/nologin", name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("lab: %s: adding the account %s: %w: %s", m.Name, name, err, bytes.TrimSpace(out))
		}
	}
	return m.SetPassword(ctx, name, password)
}

// Microsocks starts the real microsocks, a small server of SOCKS 5, and returns when
// it accepts connections. It connects to every port. Its password is in its arguments
// until it has wiped them out, which is before it listens.
func (m *Machine) Microsocks(ctx context.Context, o ProxyOptions) (*Daemon, error) {
	if err := needProgram("/usr/bin/microsocks", "microsocks"); err != nil {
		return nil, fmt.Errorf("lab: %s: starting microsocks: %w", m.Name, err)
	}
	if o.Ports != nil {
		return nil, fmt.Errorf("lab: %s: starting microsocks: it takes no list of ports", m.Name)
	}
	if o.Port == 0 {
		o.Port = SOCKSPort
	}
	args := []string{"-i", "::", "-p", fmt.Sprint(o.Port)}
	if o.User != "" {
		args = append(args, "-u", o.User, "-P", o.Password)
	}
	return m.startDaemon(ctx, loopback(o.Port), "/usr/bin/microsocks", args...)
}
