// Package sdnotify tells whoever started this process, and wants to know, how it fares:
// systemd, or another service manager that speaks as sd_notify(3) does.
package sdnotify

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// What is told, as sd_notify(3) names it.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	Alive    = "WATCHDOG=1"
)

// Status is a line about the process for people, on one line.
func Status(text string) string { return "STATUS=" + strings.ReplaceAll(text, "\n", " ") }

// Tell tells the lines: one datagram on the socket that NOTIFY_SOCKET names, an @ in
// front standing for the abstract namespace. Where nobody wants to know it does nothing.
func Tell(lines ...string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err == nil {
		defer conn.Close()
		_, err = conn.Write([]byte(strings.Join(lines, "\n") + "\n"))
	}
	if err != nil {
		return fmt.Errorf("sdnotify: %s", strings.TrimPrefix(err.Error(), "dial unixgram "))
	}
	return nil
}

// Watchdog tells that this process is alive until ctx ends, twice as often as it must
// (sd_watchdog_enabled(3)), as long as alive returns true. Without a watchdog it returns
// at once.
func Watchdog(ctx context.Context, alive func() bool) {
	every := watchdogTime()
	if every <= 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		if alive() {
			Tell(Alive)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// watchdogTime is how often this process must say that it is alive; 0: never.
func watchdogTime() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	µs, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || µs <= 0 || µs > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(µs) * time.Microsecond
}
