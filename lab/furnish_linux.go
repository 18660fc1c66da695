package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
)

// furnish gives every machine its names and accounts, and the keys between them.
func (l *Lab) furnish(ctx context.Context) error {
	hosts := fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%v gw\n%v gw\n", Gateway4, Gateway6)
	if l.options.Corp == CorpAroundGateway {
		hosts += fmt.Sprintf("%v office\n%v office6\n", CorpGateway4, CorpGateway6)
	}
	for _, m := range l.machines() {
		for path, text := range map[string]string{
			"/etc/hosts":         hosts + "127.0.1.1 " + m.Name + "\n",
			"/etc/hostname":      m.Name + "\n",
			"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n",
		} {
			if err := m.WriteFile(path, []byte(text), 0o644, "root"); err != nil {
				return err
			}
		}
	}
	shell := l.options.Shell
	if shell == "" {
		shell = "/bin/sh"
	}
	for _, a := range []struct {
		m     *Machine
		uid   int
		shell string
	}{{l.Laptop, LaptopUID, "/bin/sh"}, {l.Gateway, GatewayUID, shell}} {
		if err := a.m.Do(func() error { return addAccount("me", a.uid, a.shell) }); err != nil {
			return fmt.Errorf("lab: %s: adding the account me: %w", a.m.Name, err)
		}
	}
	laptop, gateway := []netip.Addr{FirewallInside4}, []netip.Addr{DNS4, DNS6}
	switch l.options.Corp {
	case CorpAroundLaptop:
		laptop = []netip.Addr{CorpDNS4}
	case CorpAroundGateway:
		laptop, gateway = []netip.Addr{DNS4}, []netip.Addr{CorpDNS4, CorpDNS6}
	}
	if err := l.Laptop.SetResolvConf(l.options.ResolvConf, texts(laptop)...); err != nil {
		return err
	}
	// Nothing answers there: the firewall knows the names of /etc/hosts and no more.
	if err := l.Firewall.SetResolvConf(ResolvFile, "127.0.0.1"); err != nil {
		return err
	}
	if err := l.Gateway.SetResolvConf(ResolvFile, texts(gateway)...); err != nil {
		return err
	}
	if _, err := l.Laptop.ReadFile("/etc/sudoers"); err == nil {
		if err := l.Laptop.WriteFile("/etc/sudoers.d/me", []byte("me ALL=(ALL:ALL) NOPASSWD: ALL\n"), 0o440, "root"); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return l.exchangeKeys(ctx)
}

func texts(addrs []netip.Addr) (list []string) {
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return list
}

// exchangeKeys makes the gateway's host key and a key for each of the laptop's
// accounts, and makes them known at the other side.
func (l *Lab) exchangeKeys(ctx context.Context) error {
	// Debian's own host keys, copied with /etc, are nobody else's to use.
	if err := l.Gateway.Do(func() error { return os.RemoveAll("/etc/ssh/sshd_config.d") }); err != nil {
		return err
	}
	host, err := keygen(ctx, l.Gateway, "root", hostKey)
	if err != nil {
		return err
	}
	known := fmt.Sprintf("gw,%v,%v,office,office6,%v,%v %s", Gateway4, Gateway6, CorpGateway4, CorpGateway6, host)
	for account, home := range map[string]string{"me": "/home/me", "root": "/root"} {
		key, err := keygen(ctx, l.Laptop, account, home+"/.ssh/id_ed25519")
		if err != nil {
			return err
		}
		if err := l.Laptop.WriteFile(home+"/.ssh/known_hosts", []byte(known), 0o600, account); err != nil {
			return err
		}
		if err := l.Gateway.WriteFile(home+"/.ssh/authorized_keys", key, 0o600, account); err != nil {
			return err
		}
	}
	return nil
}

// keygen makes a key pair without a passphrase, and returns the public half.
func keygen(ctx context.Context, m *Machine, account, path string) (public []byte, err error) {
	err = m.Do(func() error {
		a, err := lookupAccount(account)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return makeDirs(path[:bytes.LastIndexByte([]byte(path), '/')], a)
	})
	if err != nil {
		return nil, fmt.Errorf("lab: %s: making the key %s: %w", m.Name, path, err)
	}
	out, err := m.Command(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", account+"@"+m.Name, "-f", path).As(account).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("lab: %s: making the key %s: %w: %s", m.Name, path, err, bytes.TrimSpace(out))
	}
	return m.ReadFile(path + ".pub")
}
