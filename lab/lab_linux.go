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

// A Place says where a private network lies.
type Place int

// The places of the private network that Options.Corp adds, with hosts (Corp4) and a
// resolver (CorpDNS4) of its own. Wherever it is, the firewall lets nothing in or out
// of it but what the options say.
const (
	CorpNowhere Place = iota

	// CorpAroundLaptop: the laptop is in it, and the internet is beyond the firewall
	// and the gateway as ever.
	//
	//	corp ---\
	//	laptop --- firewall --- gateway --- internet
	CorpAroundLaptop

	// CorpAroundGateway: the gateway is in it, and the laptop is on the internet. The
	// gateway has no other way to it than what the firewall lets in.
	//
	//	internet ---\
	//	laptop ------- firewall --- gateway --- corp
	CorpAroundGateway
)

// Options choose between labs. The zero value is the usual one.
type Options struct {
	RPFilter   RPFilter   // of the laptop
	ResolvConf ResolvConf // of the laptop; it names a resolver that the firewall hides
	Shell      string     // login shell of the gateway's "me"; "" is /bin/sh
	SSHD       []string   // lines of sshd_config, ahead of the lab's own, so that they win
	AllowTCP   []uint16   // ports of the gateway that the firewall passes besides 22
	Closed     bool       // the firewall passes nothing at all, and answers the laptop's TCP itself; see FirewallInside4
	Corp       Place      // of a private network with a machine of its own, Lab.Corp
	Direct     bool       // adds a cable between laptop and internet, for comparisons; see DirectLaptop4
	Rate       int64      // bit/s of the laptop's cable each way; 0 does not slow it down
	Shaped     bool       // the laptop's cables are Shapers: Lab.Wire, and with Direct Lab.DirectWire
}

// A Lab is four machines and the cables between them.
type Lab struct {
	Laptop, Firewall, Gateway, Internet *Machine
	Corp                                *Machine // stands for the hosts of a private network; nil without Options.Corp

	// Wire is the laptop's cable and DirectWire that of Options.Direct, both up from the
	// laptop; nil without Options.Shaped. They pass everything at once until Set.
	Wire, DirectWire *Shaper

	Resolver     *Resolver // the internet's, at DNS4 and DNS6
	CorpResolver *Resolver // the private network's; nil without one

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
	if o.Corp < CorpNowhere || o.Corp > CorpAroundGateway || o.Corp != CorpNowhere && (o.Closed || o.Direct) {
		return nil, fmt.Errorf("lab: no private network at place %d of this lab", o.Corp)
	}
	if o.Shaped && o.Rate != 0 {
		return nil, errors.New("lab: a Shaper's rate is its own: Shaped and Rate exclude each other")
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
	err := l.serve()
	if err != nil {
		return err
	}
	if l.leaks, err = watch(l.Firewall, l.Laptop, l.passage()); err != nil {
		return err
	}
	l.sshd, err = startSSHD(ctx, l.Gateway, l.options.SSHD)
	return err
}

// makeMachines makes all at once: most of the time is the kernel's waiting.
func (l *Lab) makeMachines() error {
	type slot struct {
		name string
		m    **Machine
	}
	slots := []slot{{"laptop", &l.Laptop}, {"firewall", &l.Firewall}, {"gateway", &l.Gateway}, {"internet", &l.Internet}}
	if l.options.Corp != CorpNowhere {
		slots = append(slots, slot{"corp", &l.Corp})
	}
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

// machines are all that there are.
func (l *Lab) machines() []*Machine {
	return slices.DeleteFunc([]*Machine{l.Laptop, l.Firewall, l.Gateway, l.Internet, l.Corp},
		func(m *Machine) bool { return m == nil })
}

// Close ends every process of the lab, and waits until they, the mounts and the
// namespaces are gone. It may be called more than once.
func (l *Lab) Close() error {
	l.closing.Do(func() {
		machines := l.machines()
		// The listeners and sniffers first: they hold sockets in the namespaces.
		for _, m := range machines {
			m.closeServices()
		}
		if l.leaks != nil {
			l.leaks.close()
		}
		for _, s := range []*Shaper{l.Wire, l.DirectWire} {
			if s != nil {
				s.Close()
			}
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
