package key

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/bodkin-net/bodkin/config"
	"github.com/bodkin-net/bodkin/trust"
)

// limits are the flags that bind a client, as they are given.
type limits struct {
	expires, name, flows, rate []string // of these the last counts
	from, address, allow, deny []string
}

func (l *limits) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&l.allow, "allow", nil, "`DESTINATION` where it may go, and nowhere else; may be given again")
	f.StringArrayVar(&l.deny, "deny", nil, "`DESTINATION` where it may not go; may be given again")
	f.StringArrayVar(&l.address, "address", nil, "`ADDRESS` that it has inside the tunnel: 10.77.0.5/24; once for IPv4, once for IPv6")
	f.StringArrayVar(&l.from, "from", nil, "`NETWORK` or address that its connection must come from; may be given again")
	f.StringArrayVar(&l.expires, "expires", nil, "`DATE` from which on it may not: 2027-01-01 (0 h UTC), or 2027-01-01T18:00:00+01:00")
	f.StringArrayVar(&l.flows, "flows", nil, "`NUMBER` of flows that it may have at once")
	f.StringArrayVar(&l.rate, "rate", nil, "`RATE` in octets per second that it may send, and be sent: 2500K, 10M, 1G")
	f.StringArrayVar(&l.name, "name", nil, "`NAME` by which it is reached: letters, digits and dashes; else its comment makes one")
}

// client returns what the flags say of a client.
func (l *limits) client() (c trust.Client, err error) {
	for _, o := range []struct {
		flag  string
		given []string
		hint  string
		set   func(text string) error
	}{
		{"expires", l.expires, "a day, 2027-01-01, or a moment, 2027-01-01T18:00:00+01:00",
			func(text string) (err error) { c.Expires, err = trust.ParseExpiry(text); return err }},
		{"name", l.name, "such as laptop, or build-7",
			func(text string) (err error) { c.Name, err = trust.ParseName(text); return err }},
		{"flows", l.flows, "such as 256",
			func(text string) (err error) { c.Flows, err = trust.ParseFlows(text); return err }},
		{"rate", l.rate, "octets per second: 2500K, 10M, 1G",
			func(text string) (err error) { c.Rate, err = trust.ParseRate(text); return err }},
		{"from", l.from, "a network, 192.0.2.0/24, or an address",
			func(text string) error { return add(&c.From, text, trust.ParseFrom) }},
		{"address", l.address, "an address with its network, 10.77.0.5/24, or alone; one of IPv4 and one of IPv6", c.AddAddress},
		{"allow", l.allow, "such as 10.0.0.0/8, 10.0.0.7:22,443, [2001:db8::/32]:22, *:443, host",
			func(text string) error { return add(&c.Allow, text, trust.ParseDestination) }},
		{"deny", l.deny, "such as 10.0.0.0/8, 10.0.0.7:22,443, [2001:db8::/32]:22, *:25",
			func(text string) error { return add(&c.Deny, text, trust.ParseDestination) }},
	} {
		for _, text := range o.given {
			if err := o.set(text); err != nil {
				return c, &config.Error{Reason: "--" + o.flag + ": " + err.Error(), Hint: o.hint}
			}
		}
	}
	if c.Expired(time.Now()) {
		return c, &config.Error{Reason: fmt.Sprintf("--expires %s: that is past", trust.FormatExpiry(c.Expires)), Hint: "`bodkin key forget client` takes a key away"}
	}
	return c, nil
}

func add[T any](list *[]T, text string, parse func(string) (T, error)) error {
	v, err := parse(text)
	*list = append(*list, v)
	return err
}
