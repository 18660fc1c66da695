package command

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Peers returns the remote ends of the TCP connections that a process and its
// descendants hold, each once: what a program such as ssh goes out by. It is an
// error if there are none.
func Peers(pid int) ([]netip.AddrPort, error) {
	sockets := map[string]netip.AddrPort{}
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, file))
		if err != nil {
			continue // no IPv6, or the process is gone
		}
		for inode, peer := range parseSockets(text) {
			sockets[inode] = peer
		}
	}
	var peers []netip.AddrPort
	for _, p := range descendants(pid) {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p))
		for _, fd := range fds {
			link, err := os.Readlink(fd)
			if err != nil {
				continue
			}
			inode := strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")
			if peer, ok := sockets[inode]; ok && !slices.Contains(peers, peer) {
				peers = append(peers, peer)
			}
		}
	}
	if len(peers) == 0 {
		return nil, fmt.Errorf("command: process %d and its descendants hold no TCP connection", pid)
	}
	return peers, nil
}

// descendants returns pid and all processes below it.
func descendants(pid int) []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		// "pid (name) state ppid ...", proc_pid_stat(5); the name may hold anything
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 {
			continue
		}
		child, err1 := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		parent, err2 := strconv.Atoi(string(fields[1]))
		if err1 == nil && err2 == nil {
			children[parent] = append(children[parent], child)
		}
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// established is the state of a connected socket in /proc/net/tcp.
const established = "01"

// parseSockets returns the remote ends of the connected sockets in a text as
// /proc/net/tcp or tcp6, by inode. Lines that are not understood are left out.
func parseSockets(text []byte) map[string]netip.AddrPort {
	sockets := map[string]netip.AddrPort{}
	for line := range bytes.Lines(text) {
		// sl local_address rem_address st queues tr retrnsmt uid timeout inode
		f := strings.Fields(string(line))
		if len(f) < 10 || f[3] != established {
			continue
		}
		if peer, ok := parseAddress(f[2]); ok {
			sockets[f[9]] = peer
		}
	}
	return sockets
}

// parseAddress parses "0100007F:0016": the address as 32-bit words in the byte
// order of the machine, the port as a number.
func parseAddress(s string) (netip.AddrPort, bool) {
	words, port, ok := strings.Cut(s, ":")
	raw, err := hex.DecodeString(words)
	n, errPort := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || errPort != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	address, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(address.Unmap(), uint16(n)), true
}
