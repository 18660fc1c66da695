package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// A connectionsChange does nothing until it is taken back, before the rules are.
// Then it takes the device down, since the kernel would answer what still comes
// out of it (a reset for a connection that is no more) beside the tunnel. And it
// ends what the machine's programs have open from the tunnel's addresses: TCP
// connections, those that are closing by themselves too, and connected UDP
// sockets. Their next octets, and what was not acknowledged, would go out beside
// the tunnel. The programs see ECONNABORTED.
type connectionsChange struct {
	Device string       `json:"device,omitempty"` // "" if it was up before, and stays so
	Index  int          `json:"index"`
	Addrs  []netip.Addr `json:"addrs"`
}

// allStates is every state of a socket but listening (net/tcp_states.h).
const allStates = 0xfff &^ (1 << 10)

func (c *connectionsChange) String() string {
	s := "# at the end: ss -K"
	for i, a := range c.Addrs {
		if i > 0 {
			s += " or"
		}
		s += " src " + a.String()
	}
	return s
}

func (c *connectionsChange) do(*machine) error { return nil }

func (c *connectionsChange) undo(m *machine) (string, error) {
	if c.Device != "" {
		link, err := m.device(c.Device, c.Index)
		if err != nil {
			return "", err
		}
		if link != nil {
			if err := m.nl.LinkSetDown(link); err != nil {
				return "", err
			}
		}
	}
	ended := 0
	for _, a := range c.Addrs {
		for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			n, err := endSockets(a, protocol)
			ended += n
			if absent(err) {
				m.note("this kernel cannot end connections: those that were open through the tunnel may send outside it")
				return "", nil
			}
			if err != nil {
				return "", err
			}
		}
	}
	if ended == 0 {
		return "", nil
	}
	return fmt.Sprintf("ended %d connections from the tunnel's addresses", ended), nil
}

func (c *connectionsChange) present(*machine) (bool, error) { return true, nil }
func (c *connectionsChange) lasts() bool                    { return false }

// A diagRequest is struct inet_diag_req_v2, linux/inet_diag.h.
type diagRequest []byte

// diagRequestLen is its size: eight octets, then an inet_diag_sockid of 48.
const diagRequestLen = 8 + 48

func newDiagRequest(family int, protocol uint8, states uint32) diagRequest {
	r := make(diagRequest, diagRequestLen)
	r[0], r[1] = byte(family), protocol
	binary.NativeEndian.PutUint32(r[4:], states)
	return r
}

func (r diagRequest) Len() int          { return len(r) }
func (r diagRequest) Serialize() []byte { return r }

// endSockets destroys every socket of the protocol whose own address is a, and
// returns how many there were.
func endSockets(a netip.Addr, protocol uint8) (ended int, err error) {
	f := family(a)
	ids, err := whole(func() (ids [][]byte, err error) {
		req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		req.AddData(newDiagRequest(f, protocol, allStates))
		messages, err := req.Execute(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY)
		if err != nil {
			return nil, err
		}
		// struct inet_diag_msg: family, state, timer, retrans, then the sockid, in
		// which two ports of two octets precede the socket's own address.
		for _, m := range messages {
			if len(m) < 4+48 {
				continue
			}
			if own, _ := netip.AddrFromSlice(m[4+4:][:a.BitLen()/8]); own == a {
				ids = append(ids, m[4:4+48])
			}
		}
		return ids, nil
	})
	if err != nil {
		return 0, err
	}
	for _, id := range ids {
		req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
		r := newDiagRequest(f, protocol, allStates)
		copy(r[8:], id) // with the cookie: this socket and no later one
		req.AddData(r)
		_, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil && !errors.Is(err, unix.ENOENT) { // it ended by itself
			return ended, err
		}
		ended++
	}
	return ended, nil
}
