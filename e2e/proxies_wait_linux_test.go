package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/bodkin-net/bodkin/lab"
)

// TestProxiesThatWait: two proxies that were not told TCP_NODELAY, one after the other, on a
// machine that has more to do. Each keeps the end of what it has until the rest is
// acknowledged (RFC 896), which takes 40 ms, as the bound of what is in flight makes many
// ends; that is not a queue, and the way is not slow.
func TestProxiesThatWait(t *testing.T) {
	t.Parallel()
	const octets, patience = 20_000_000, 30 * time.Second
	for i := range 3 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			w := proxyWorld(t)
			w.microsocks(lab.ProxyOptions{})
			w.squid(lab.SquidOptions{})
			w.up(viaAll([]string{"socks5://proxy", "http://firewall"}, overSSH)...)
			begun := time.Now()
			w.fullIP(octets)
			took := time.Since(begun)
			t.Logf("full IP and %d octets each way in %v", octets, took)
			if took > patience {
				t.Errorf("full IP and %d octets each way take %v, more than %v", octets, took, patience)
			}
			w.down()
		})
	}
}
