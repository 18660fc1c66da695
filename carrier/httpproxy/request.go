package httpproxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxName is the longest name of the DNS, in octets (RFC 1035, section 2.3.4).
const maxName = 253

// checkTarget returns the authority form of "host:port" (RFC 9112, section 3.2.3).
// It lets through nothing that could end the request's line: an address, or a name
// of letters, digits, dots, hyphens and underscores.
func checkTarget(target string) (string, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return "", fmt.Errorf("the target %q is not host:port", shown(target))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("the target %q has no port from 1 to 65535", shown(target))
	}
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return "", errors.New("the target's address has a zone, which means nothing to a proxy")
		}
		return net.JoinHostPort(host, port), nil
	}
	if host == "" || len(host) > maxName || strings.Trim(host, nameLetters) != "" || strings.ContainsFunc(host, notInName) {
		return "", fmt.Errorf("the target %q is neither an address nor a name of the DNS", shown(target))
	}
	return host + ":" + port, nil
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

func notInName(r rune) bool { return !strings.ContainsRune(nameLetters, r) }

// request returns the request for a tunnel to target, which was checked.
//
// Proxy-Connection is no field of HTTP, but without it older proxies close the
// connection that NTLM is bound to; curl sends it too.
func request(target, agent, credentials string) []byte {
	var b strings.Builder
	b.WriteString("CONNECT " + target + " HTTP/1.1\r\n")
	b.WriteString("Host: " + target + "\r\n")
	if agent != "" {
		b.WriteString("User-Agent: " + agent + "\r\n")
	}
	b.WriteString("Proxy-Connection: keep-alive\r\n")
	if credentials != "" {
		b.WriteString("Proxy-Authorization: " + credentials + "\r\n")
	}
	b.WriteString("\r\n")
	return []byte(b.String())
}

// clean reports whether text has no control character.
func clean(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f })
}
