package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// systemBus is the bus's well-known address. The environment is not asked: it
// may be that of a user who wants us to talk to somebody else.
const systemBus = "unix:path=/run/dbus/system_bus_socket"

// busWait bounds one dialogue with systemd-resolved, which answers in
// milliseconds or is stuck.
const busWait = 5 * time.Second

const (
	resolvedName  = "org.freedesktop.resolve1"
	resolvedIface = "org.freedesktop.resolve1.Manager"
)

// A resolvedChange tells systemd-resolved which servers the tunnel's device has,
// and for which names; org.freedesktop.resolve1(5).
type resolvedChange struct {
	Device  string       `json:"device"`
	Index   int          `json:"index"`
	Servers []netip.Addr `json:"servers"`
	Domains []string     `json:"domains,omitempty"` // empty: every name
}

// Types of the bus: a(iay) and a(sb).
type (
	busServer struct {
		Family int32
		Addr   []byte
	}
	busDomain struct {
		Name    string
		Routing bool // used to choose servers, not to complete names
	}
)

func (c *resolvedChange) String() string {
	s := "resolvectl dns " + c.Device
	for _, a := range c.Servers {
		s += " " + a.String()
	}
	if len(c.Domains) == 0 {
		return s + fmt.Sprintf("\nresolvectl domain %s ~.\nresolvectl default-route %s yes", c.Device, c.Device)
	}
	return s + fmt.Sprintf("\nresolvectl domain %s %s\nresolvectl default-route %s no", c.Device, strings.Join(c.Domains, " "), c.Device)
}

// resolvedRuns reports whether systemd-resolved is there. It does not start it.
func resolvedRuns() bool {
	ctx, cancel := context.WithTimeout(context.Background(), busWait)
	defer cancel()
	bus, err := dbus.Connect(systemBus, dbus.WithContext(ctx))
	if err != nil {
		return false
	}
	defer bus.Close()
	var has bool
	err = bus.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, resolvedName).Store(&has)
	return err == nil && has
}

// withResolved runs f with the manager's object.
func withResolved(f func(call func(method string, args ...any) error) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), busWait)
	defer cancel()
	bus, err := dbus.Connect(systemBus, dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("system bus: %w", err)
	}
	defer bus.Close()
	manager := bus.Object(resolvedName, "/org/freedesktop/resolve1")
	return f(func(method string, args ...any) error {
		err := manager.CallWithContext(ctx, resolvedIface+"."+method, dbus.FlagNoAutoStart, args...).Err
		if err != nil {
			return fmt.Errorf("systemd-resolved: %s: %w", method, err)
		}
		return nil
	})
}

func (c *resolvedChange) do(m *machine) error {
	var servers []busServer
	for _, a := range c.Servers {
		servers = append(servers, busServer{int32(family(a)), a.AsSlice()})
	}
	domains := []busDomain{{".", true}}
	if len(c.Domains) > 0 {
		domains = nil
		for _, d := range c.Domains {
			domains = append(domains, busDomain{d, false})
		}
	}
	return withResolved(func(call func(string, ...any) error) error {
		if err := c.untilKnown(func() error { return call("SetLinkDNS", int32(c.Index), servers) }); err != nil {
			return err
		}
		reached("told resolved the servers")
		if err := call("SetLinkDomains", int32(c.Index), domains); err != nil {
			return err
		}
		err := call("SetLinkDefaultRoute", int32(c.Index), len(c.Domains) == 0)
		if isBusError(err, "org.freedesktop.DBus.Error.UnknownMethod") {
			return nil // before systemd 240; the domain "." says the same
		}
		return err
	})
}

// untilKnown repeats f while systemd-resolved has not yet heard from the kernel
// of a device that has just been made. It tells nobody when it has, so we ask:
// every 10 ms, within busWait.
func (c *resolvedChange) untilKnown(f func() error) error {
	for deadline := time.Now().Add(busWait); ; time.Sleep(10 * time.Millisecond) {
		err := f()
		if !isBusError(err, "org.freedesktop.resolve1.NoSuchLink") || time.Now().After(deadline) {
			return err
		}
	}
}

func isBusError(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}

func (c *resolvedChange) undo(m *machine) (string, error) {
	link, err := m.device(c.Device, c.Index)
	if link == nil || err != nil || !resolvedRuns() {
		return "", err // resolved forgets a device that is gone, and all when it ends
	}
	err = withResolved(func(call func(string, ...any) error) error { return call("RevertLink", int32(c.Index)) })
	if isBusError(err, "org.freedesktop.resolve1.NoSuchLink") {
		return "", nil
	}
	return "resolvectl revert " + c.Device, err
}

// present does not ask: what systemd-resolved was told stands until the device
// goes.
func (c *resolvedChange) present(m *machine) (bool, error) { return true, nil }

func (c *resolvedChange) lasts() bool { return false }
