// Package standin is what stands in the place of other people's emulators: `bodkin ppp`
// in that of pppd, `bodkin slirp` in that of SLiRP, with their words, their exit
// statuses, and their way to speak.
//
// Both put link/ppp on a line, and something behind it. What they share:
//
//	line.go          the line: a terminal, a device, a command, a socket
//	serial_*.go      its speed and flow control
//	script.go        commands that speak on it first: connect and its kin
//	identity.go      who proves what to whom; secrets
//	log.go           what is said, and never on the line
//	status.go        exit statuses
//
// In pppd's place:
//
//	ppp.go           words -> options, help
//	pppconfig.go     options -> what is wanted of the link
//	ppplife.go       dial, carry, end, and again
//	pppevents.go     what the link tells meanwhile
//	ppphost.go       what is behind the link: an interface, or a NAT
//	ppphooks.go      /etc/ppp/ip-up and its kin
//	sdnotify.go      the service manager
//
// In SLiRP's:
//
//	slirp.go         words -> options, help
//	slirpconfig.go   options -> what is wanted of the link and of the NAT
//	slirplife.go     one link after another, before one NAT
//	slirpzeros.go    the way out without a peer
//
// The languages of the options are packages config/pppd and config/slirp.
package standin
