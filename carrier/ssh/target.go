package ssh

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// A Target is where to log in. Host may be a name of the user's ssh config; what
// is empty or zero, that config settles.
type Target struct {
	User string
	Host string
	Port uint16
}

// The grammar of what may stand in ssh's argument list and, by way of the tokens
// %h and %r, in commands of the user's config that a shell runs. It is narrower
// than what systems allow: stranger names can be given a plain one in ssh_config.
var (
	userPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,253}[A-Za-z0-9_.])?$`)
	zonePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,15}$`)
)

// String returns [user@]host[:port].
func (t Target) String() string {
	s := t.Host
	if t.Port != 0 {
		if strings.Contains(s, ":") {
			s = "[" + s + "]"
		}
		s += ":" + strconv.Itoa(int(t.Port))
	}
	if t.User != "" {
		s = t.User + "@" + s
	}
	return s
}

// check refuses what could be taken for an option, or mean something to a shell.
func (t Target) check() error {
	if t.User != "" && !userPattern.MatchString(t.User) {
		return errors.New("a user name has letters, digits and . _ @ + - only; give others by User in the ssh config")
	}
	if hostPattern.MatchString(t.Host) {
		return nil
	}
	address, err := netip.ParseAddr(t.Host)
	if err != nil || address.Zone() != "" && !zonePattern.MatchString(address.Zone()) {
		return errors.New("a host is a name of letters, digits and . _ -, or an address")
	}
	return nil
}
