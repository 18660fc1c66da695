package standin

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// tellServiceManager says that the link is up to whoever started us and wants to know
// (sd_notify(3)): one datagram on the socket that NOTIFY_SOCKET names, an @ in front
// standing for the abstract namespace.
func tellServiceManager() error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil // nobody does
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		defer conn.Close()
		_, err = conn.Write([]byte("READY=1\n"))
	}
	if err != nil {
		return fmt.Errorf("up_sdnotify: %s", strings.TrimPrefix(err.Error(), "dial unixgram "))
	}
	return nil
}
