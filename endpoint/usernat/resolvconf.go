package usernat

import (
	"bufio"
	"bytes"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	// maxResolvConf is how much of the file is read, in octets.
	maxResolvConf = 64 << 10

	// resolvConfFor is how long the file is taken not to have changed.
	resolvConfFor = time.Second
)

// A resolvConf is a file in the manner of resolv.conf(5), read again when it
// changes.
type resolvConf struct {
	path string

	mu     sync.Mutex
	looked time.Time // when the file was last looked at
	seen   os.FileInfo
	addrs  []netip.AddrPort
}

// resolvers returns the name servers of the file. The caller must not change the
// slice. A file that cannot be read leaves them as they were.
func (r *resolvConf) resolvers() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); r.looked.IsZero() || now.Sub(r.looked) >= resolvConfFor {
		r.looked = now
		r.read()
	}
	return r.addrs
}

func (r *resolvConf) read() {
	f, err := os.Open(r.path)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || r.seen != nil && os.SameFile(info, r.seen) &&
		info.ModTime().Equal(r.seen.ModTime()) && info.Size() == r.seen.Size() {
		return
	}
	b, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return
	}
	r.seen, r.addrs = info, parseResolvConf(b)
}

// parseResolvConf returns the name servers in b. Without any it is the one on
// the local machine, as resolv.conf(5) says.
func parseResolvConf(b []byte) []netip.AddrPort {
	var addrs []netip.AddrPort
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			addrs = append(addrs, netip.AddrPortFrom(a.Unmap(), 53))
		}
	}
	if len(addrs) == 0 {
		addrs = append(addrs, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53))
	}
	return addrs
}
