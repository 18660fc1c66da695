// Package lab builds the network that bodkin is made for, on one Linux machine:
// four network namespaces in a row, with real programs in them.
//
//	laptop ------------ firewall ------------ gateway ------------ internet
//	192.0.2.10/24       forwards tcp/22       198.51.100.22        203.0.113.0/24
//	2001:db8:1::10      to the gateway,       2001:db8:2::22       2001:db8:f::/64
//	account me (1000)   drops the rest        account me (1001)    web, DNS, a black hole
//
// The laptop has an ordinary account, sudo and an ssh key; the gateway runs the
// real sshd and has an ordinary account that takes the key; the internet answers
// HTTP, DNS and echoes from this process. The demo and the end-to-end tests stand
// on the same ground.
//
// Each machine is a set of namespaces (network, mounts, processes, host name,
// System V IPC) with a private copy of /etc, /var and /usr/local and an empty
// /home, /root, /run and /tmp. Nothing on the real machine changes: no address,
// no route, no sysctl, no file, and nothing is left after Close, or after the
// death of the process that called New. Only the kernel, sh, mount and OpenSSH are
// needed; addresses, routes and filters are made through netlink.
//
// A machine can have the real pppd and slirp besides (InstallPPPD, InstallSlirp).
// Where this kernel has no PPP, pppd runs in a guest of its own: User Mode Linux,
// an ordinary process whose files are the machine's.
//
// What a firewall that lets nothing out has instead is there too (Options.Closed): a
// telnet proxy in the manner of tn-gw and the real squid, tinyproxy, danted and
// microsocks on the firewall, the real telnetd and login behind it (Telnetd), a
// login shell that writes down what it reads (TraceShell), and between any two of
// them a relay that does to octets what dirty lines do (Chaos).
//
// The laptop's cables can be long, narrow and bad (Options.Shaped): a Shaper each, of
// which tests and measurements choose the delay, rate, buffer, jitter and loss while it
// runs, and which they cut.
//
// It imports nothing else of this project, so that every part can be tested in it.
package lab
