package host

import (
	"encoding/binary"
	"fmt"
	"os"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The ports that masqueraded connections may have: those that the machine gives
// its own connections too (ip(7), ip_local_port_range), and hardly one at which it
// waits for others. Else whoever is behind the tunnel could take the place of
// a server on this machine (CVE-2021-3773).
const firstMasked, lastMasked = 32768, 60999

// masqueradePorts puts what has ports before what the chain postrouting has. The
// nftables package cannot say "masquerade to" as nft(8) does: its expression
// leaves out the flag that makes the kernel heed the ports
// (NF_NAT_RANGE_PROTO_SPECIFIED). So this one message is made here.
func (c *forwardChange) masqueradePorts() error {
	batch := batchMessage(unix.NFNL_MSG_BATCH_BEGIN, 0)
	rules, _ := c.masked()
	for i := range rules { // each comes first, so the last one is sent first
		message, err := c.masqueradeMessage(rules[len(rules)-1-i])
		if err != nil {
			return err
		}
		batch = append(batch, message...)
	}
	batch = append(batch, batchMessage(unix.NFNL_MSG_BATCH_END, 0)...)

	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("sendto", err)
	}
	// The kernel has done it all, and answered, when sendto returns.
	answer := make([]byte, 16<<10)
	for range rules {
		n, _, err := unix.Recvfrom(fd, answer, unix.MSG_DONTWAIT)
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		if err := refusal(answer[:n]); err != nil {
			return err
		}
	}
	return nil
}

// refusal returns the error number of an answer of the kernel's; netlink(7).
func refusal(answer []byte) error {
	if len(answer) < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("nftables: an answer of %d octets", len(answer))
	}
	h := binary.NativeEndian
	if kind := h.Uint16(answer[4:]); kind != unix.NLMSG_ERROR {
		return fmt.Errorf("nftables: an answer of type %d", kind)
	}
	if number := int32(h.Uint32(answer[unix.SizeofNlMsghdr:])); number != 0 {
		return unix.Errno(-number)
	}
	return nil
}

// masqueradeMessage is NFT_MSG_NEWRULE with the rule r, its verdict masquerade to
// the ports.
func (c *forwardChange) masqueradeMessage(r filterRule) ([]byte, error) {
	exprs := append(r.exprs,
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(firstMasked)},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(lastMasked)},
	)
	list := nl.NewRtAttr(unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, nil)
	for _, e := range exprs {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return nil, err
		}
		list.AddRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
	}
	number := binaryutil.BigEndian.PutUint32
	masq := list.AddRtAttr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, nil)
	masq.AddRtAttr(unix.NFTA_EXPR_NAME, nl.ZeroTerminated("masq"))
	data := masq.AddRtAttr(unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, nil)
	data.AddRtAttr(unix.NFTA_MASQ_FLAGS, number(unix.NF_NAT_RANGE_PROTO_SPECIFIED))
	data.AddRtAttr(unix.NFTA_MASQ_REG_PROTO_MIN, number(1))
	data.AddRtAttr(unix.NFTA_MASQ_REG_PROTO_MAX, number(2))

	body := nl.NewRtAttr(unix.NFTA_RULE_TABLE, nl.ZeroTerminated(c.Name)).Serialize()
	body = append(body, nl.NewRtAttr(unix.NFTA_RULE_CHAIN, nl.ZeroTerminated("postrouting")).Serialize()...)
	body = append(body, list.Serialize()...)
	const kind = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE
	return netfilterMessage(kind, unix.NLM_F_CREATE|unix.NLM_F_ACK, unix.NFPROTO_INET, 0, body), nil
}

func batchMessage(kind uint16, flags uint16) []byte {
	return netfilterMessage(kind, flags, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
}

// netfilterMessage is a netlink header and a struct nfgenmsg
// (linux/netfilter/nfnetlink.h) before body.
func netfilterMessage(kind, flags uint16, family byte, resource uint16, body []byte) []byte {
	h := binary.NativeEndian
	size := unix.SizeofNlMsghdr + 4 + len(body)
	b := make([]byte, 0, size)
	b = h.AppendUint32(b, uint32(size))
	b = h.AppendUint16(b, kind)
	b = h.AppendUint16(b, flags|unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence number, port
	b = append(b, family, unix.NFNETLINK_V0, byte(resource>>8), byte(resource))
	return append(b, body...)
}
