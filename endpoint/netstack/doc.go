// Package netstack is a TCP/IP stack inside the process, for tunnels: gVisor's, with
// packets going in by Inject and out by an Outlet, super-packets whole both ways,
// and with Conns, which splice a connection of the stack to a socket of the host.
//
// It decides nothing: which packets come in, who is dialled and what is answered is
// its user's affair. usernat stands on it with every address for its own, socks
// with the tunnel's.
package netstack
