package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// An RPFilter is a setting of the reverse path filter (RFC 3704) on the laptop.
type RPFilter int

// The settings of the reverse path filter.
const (
	RPLoose  RPFilter = iota // 2, as Debian sets it
	RPOff                    // 0, as the kernel comes
	RPStrict                 // 1, as Red Hat sets it
)

func (f RPFilter) sysctl() string { return [...]string{"2", "0", "1"}[f] }

// Options choose between labs. The zero value is the usual one.
type Options struct {
	RPFilter   RPFilter   // of the laptop
	ResolvConf ResolvConf // of the laptop; it names a resolver that the firewall hides
	Shell      string     // login shell of the gateway's "me"; "" is /bin/sh
	SSHD       []string   // lines of sshd_config, ahead of the lab's own, so that they win
	AllowTCP   []uint16   // ports of the gateway that the firewall passes besides 22
	Closed     bool       // the firewall passes nothing at all, and answers the laptop's TCP itself; see FirewallInside4
	Direct     bool       // adds a cable between laptop and internet, for comparisons; see DirectLaptop4
	Rate       int64      // bit/s of the laptop's cable each way; 0 does not slow it down
}

// A Lab is four machines and the cables between them.
type Lab struct {
	Laptop, Firewall, Gateway, Internet *Machine

	options Options
	sshd    *sshd
	leaks   *leakLog

	closing sync.Once
}

// New builds a lab and returns once every part of it answers. It needs root. The
// caller closes it.
func New(ctx context.Context, o Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("lab: network namespaces need root: run this as root, or through sudo")
	}
	if o.RPFilter < RPLoose || o.RPFilter > RPStrict {
		return nil, fmt.Errorf("lab: no reverse path filter setting %d", o.RPFilter)
	}
	l := &Lab{options: o}
	if err := l.build(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) build(ctx context.Context) error {
	if err := l.makeMachines(); err != nil {
		return err
	}
	if err := l.connect(ctx); err != nil {
		return err
	}
	if err := l.filter(); err != nil {
		return err
	}
	if err := l.furnish(ctx); err != nil {
		return err
	}
	if err := serve(l.Internet); err != nil {
		return err
	}
	var err error
	if l.leaks, err = watch(l.Firewall, l.Laptop, l.passage()); err != nil {
		return err
	}
	l.sshd, err = startSSHD(ctx, l.Gateway, l.options.SSHD)
	return err
}

// makeMachines makes the four at once: most of the time is the kernel's waiting.
func (l *Lab) makeMachines() error {
	slots := []struct {
		name string
		m    **Machine
	}{{"laptop", &l.Laptop}, {"firewall", &l.Firewall}, {"gateway", &l.Gateway}, {"internet", &l.Internet}}
	errs := make([]error, len(slots))
	var wg sync.WaitGroup
	for i, s := range slots {
		wg.Go(func() {
			m, err := newMachine(s.name)
			if err != nil {
				errs[i] = err
				return
			}
			*s.m = m
		})
	}
	wg.Wait()
	for _, err := range errs {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("%w (root without CAP_SYS_ADMIN and CAP_NET_ADMIN, as in a container?)", err)
		}
		if err != nil {
			return err // one reason is enough: the others are alike
		}
	}
	return nil
}

// Close ends every process of the lab, and waits until they, the mounts and the
// namespaces are gone. It may be called more than once.
func (l *Lab) Close() error {
	l.closing.Do(func() {
		machines := slices.DeleteFunc([]*Machine{l.Laptop, l.Firewall, l.Gateway, l.Internet},
			func(m *Machine) bool { return m == nil })
		// The listeners and sniffers first: they hold sockets in the namespaces.
		for _, m := range machines {
			m.closeServices()
		}
		if l.leaks != nil {
			l.leaks.close()
		}
		var wg sync.WaitGroup
		for _, m := range machines {
			wg.Go(m.close)
		}
		wg.Wait()
		if l.sshd != nil {
			l.sshd.wait()
		}
	})
	return nil
}
