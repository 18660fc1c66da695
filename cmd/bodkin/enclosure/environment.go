package enclosure

import "strings"

// proxies are the variables that name the proxies of the network outside, in small
// letters. Inside there is no need of them, and no way to them.
var proxies = map[string]bool{
	"http_proxy": true, "https_proxy": true, "ftp_proxy": true, "all_proxy": true,
	"socks_proxy": true, "socks5_server": true, "rsync_proxy": true, "no_proxy": true,
}

// Environment returns env without the variables that name the proxies of the network
// outside, and changes nothing of it. A user who wants one inside runs `env
// https_proxy=... command`.
func Environment(env []string) []string {
	kept := make([]string, 0, len(env))
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); !proxies[strings.ToLower(name)] {
			kept = append(kept, e)
		}
	}
	return kept
}
