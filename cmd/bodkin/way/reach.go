package way

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
)

// splitAddress splits "host:port", with an IPv6 address in brackets.
func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", address)
	}
	return host, port, nil
}

// hintReach says what to try when a connection could not be made.
func hintReach(err error) string {
	var name *net.DNSError
	var timeout net.Error
	switch {
	case errors.As(err, &name):
		return "check the name; a name that only the far side knows is for a proxy to look up"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: check host and port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "check that this machine is online, and the firewall between"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &timeout) && timeout.Timeout():
		return "nobody answers: check host and port; a firewall between may let out a proxy only, see --via"
	}
	return ""
}
