// Package trust holds the keys of bodkin's own security layer and the two files that
// say whom they are trusted for, all in OpenSSH's manner.
//
//	key.go          a machine's key pair: OpenSSH's private-key file
//	public.go       "ssh-ed25519 AAAA... comment", fingerprints, and the one comparison
//	lines.go        what both files have in common: lines, comments, what is refused
//	servers.go      known_servers: "name ssh-ed25519 AAAA... comment"
//	clients.go      authorized_clients: "[options] ssh-ed25519 AAAA... comment"
//	options.go      the options of a client: how they are written, and which there are
//	limits.go       what their values mean: dates, names, addresses, rates
//	destination.go  where a client may go
//	watch.go        authorized_clients as it is now
//	file.go         files that nobody else could have written, and the writing of them
//
// Every key is Ed25519. Nothing is trusted on first use: what is in no file is unknown,
// and what a file cannot mean for certain counts against the key. This package opens no
// connection and asks no one; it imports nothing of ours.
package trust
