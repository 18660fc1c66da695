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

// Shield returns a program and its arguments, run so that the terminal's keys do not end
// or stop it: Ctrl-C, Ctrl-\ and Ctrl-Z are the command's, and must leave the program
// that carries its tunnel alone, which stands in the same process group because it may
// have to ask for a password there. OpenSSH keeps ignoring what it finds ignored.
func Shield(program []string) []string {
	return append([]string{"/bin/sh", "-c", `trap '' INT QUIT TSTP; exec "$0" "$@"`}, program...)
}
