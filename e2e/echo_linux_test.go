package e2e_test

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// answerLate makes host, on the internet, answer pings only after delay, and the
// rest of the internet not at all. It returns what ends that.
func (w *world) answerLate(host netip.Addr, delay time.Duration) (stop func()) {
	w.t.Helper()
	network, setting := "ip4:icmp", "net/ipv4/icmp_echo_ignore_all"
	protocol := ipv4.ICMPTypeEcho.Protocol()
	if host.Is6() {
		network, setting = "ip6:ipv6-icmp", "net/ipv6/icmp/echo_ignore_all"
		protocol = ipv6.ICMPTypeEchoRequest.Protocol()
	}
	var conn *icmp.PacketConn
	err := w.Internet.Do(func() (err error) {
		conn, err = icmp.ListenPacket(network, host.String())
		return err
	})
	if err != nil {
		w.t.Fatalf("listening for pings at %v: %v", host, err)
	}
	if err := w.Internet.SetSysctl(setting, "1"); err != nil {
		w.t.Fatal(err)
	}

	var answering sync.WaitGroup
	answering.Go(func() {
		var waiting sync.WaitGroup
		defer waiting.Wait()
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return // stop has closed it
			}
			m, err := icmp.ParseMessage(protocol, buf[:n])
			if err != nil || m.Type != ipv4.ICMPTypeEcho && m.Type != ipv6.ICMPTypeEchoRequest {
				continue
			}
			waiting.Go(func() { // ping sends a handful
				time.Sleep(delay) // what this host is for
				answer(conn, m, from)
			})
		}
	})
	return func() {
		conn.Close()
		answering.Wait()
		if err := w.Internet.SetSysctl(setting, "0"); err != nil {
			w.t.Error(err)
		}
	}
}

func answer(conn *icmp.PacketConn, request *icmp.Message, to net.Addr) {
	reply := icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: request.Body}
	if request.Type == ipv6.ICMPTypeEchoRequest {
		reply.Type = ipv6.ICMPTypeEchoReply
	}
	if b, err := reply.Marshal(nil); err == nil { // the kernel completes ICMPv6's checksum
		conn.WriteTo(b, to)
	}
}
