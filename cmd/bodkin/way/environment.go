package way

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/cmd/bodkin/secret"
	"github.com/bodkin-net/bodkin/config"
)

// FromEnvironment returns the hop that the environment names for a target, as curl(1)
// and others read it: HTTPS_PROXY, else ALL_PROXY, in capitals or small letters,
// unless NO_PROXY names the target. A password in there goes to secrets; what follows a
// question mark, of which others know nothing, is as in any hop. There may be none, and
// then there is no hop.
func FromEnvironment(target config.Hop, secrets *secret.Sources) ([]config.Hop, error) {
	c := httpproxy.FromEnvironment()
	for _, name := range []string{"ALL_PROXY", "all_proxy"} {
		if c.HTTPSProxy == "" {
			c.HTTPSProxy = os.Getenv(name)
		}
	}
	port := target.Port
	if port == 0 {
		port = 22
	}
	u, err := c.ProxyFunc()(&url.URL{Scheme: "https", Host: net.JoinHostPort(target.Host, strconv.Itoa(port))})
	if err != nil {
		// The error repeats the URL, which may hold a password.
		return nil, report.WithHint(fmt.Errorf("HTTPS_PROXY or ALL_PROXY of the environment is no URL"), "write it as http://proxy:3128")
	}
	if u == nil {
		return nil, nil
	}
	password, has := u.User.Password()
	named := url.URL{Scheme: u.Scheme, Host: u.Host, RawQuery: u.RawQuery}
	text := named.String()
	if name := u.User.Username(); name != "" {
		text = strings.Replace(text, "://", "://"+name+"@", 1)
	}
	h, err := config.ParseVia(text)
	if err != nil {
		return nil, err
	}
	if has {
		secrets.Set(h.Place(), password, holding(u.User.String())...)
	}
	return []config.Hop{h}, nil
}

// holding returns the variables for proxies that hold a user and password as in a URL.
func holding(userinfo string) (names []string) {
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"} {
		for _, name := range []string{name, strings.ToLower(name)} {
			value := os.Getenv(name)
			if !strings.Contains(value, "://") {
				value = "http://" + value
			}
			if u, err := url.Parse(value); err == nil && u.User.String() == userinfo {
				names = append(names, name)
			}
		}
	}
	return names
}
