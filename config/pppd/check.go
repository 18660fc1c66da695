package pppd

import (
	"strings"
)

// check refuses options that do not go together. None of it depends on the order
// in which they were given.
func (o *Options) check() error {
	l := &o.Line
	if l.Device != "" {
		if l.Kind != LineDefault {
			return refuse("leave one of them out", "the line cannot be both %s and %s", Quote(l.Device), l.Kind)
		}
		l.Kind = LineDevice
	}
	if l.Speed != 0 && l.Kind != LineDevice && l.Kind != LineDefault {
		o.Notes = append(o.Notes, "the speed is ignored: this line has none")
	}
	if o.Log.File != "" && o.Log.FD >= 0 {
		return refuse("", "logfile and logfd: only one of them")
	}
	if o.IPv4.Off && o.IPv6.Want == Off {
		return refuse("", "noip and noipv6: nothing is left to carry")
	}
	if o.IPv4.Local.IsValid() && o.IPv4.Local == o.IPv4.Remote {
		return refuse("write LOCAL:REMOTE", "both ends have the address %v", o.IPv4.Local)
	}
	if h := &o.Host; h.NAT && (h.DefaultRoute || h.DefaultRoute6) {
		return refuse("leave out nat to send this machine's packets through the link, or defaultroute to serve the peer",
			"nat and defaultroute: nat makes this machine the way out for the peer, defaultroute the peer the way out for this machine")
	}
	if o.LCP.EchoFailure > 0 && o.LCP.EchoInterval == 0 {
		o.Notes = append(o.Notes, "lcp-echo-failure does nothing without lcp-echo-interval")
	}
	a := &o.Auth
	if a.Want == WantNone && (a.RequirePAP || a.RequireCHAP || a.RequireMSCHAPv2) {
		a.RequirePAP, a.RequireCHAP, a.RequireMSCHAPv2 = false, false, false // as pppd: noauth wins
	}
	if o.Life.LinkName != "" && (strings.ContainsAny(o.Life.LinkName, "/\x00") || o.Life.LinkName[0] == '.') {
		return refuse("", "linkname %s: a name without / that does not begin with a dot", Quote(o.Life.LinkName))
	}
	return nil
}

// String names the kind as its option does.
func (k LineKind) String() string {
	switch k {
	case LineDevice:
		return "a device"
	case LinePTY:
		return "pty"
	case LinePipe:
		return "pipe"
	case LineStdio:
		return "notty"
	case LineSocket:
		return "socket"
	}
	return "the terminal"
}
