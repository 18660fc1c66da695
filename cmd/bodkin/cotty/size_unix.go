//go:build unix

package cotty

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// passSize passes the window size of a terminal on, now and whenever it changes.
func passSize(ctx context.Context, tty *os.File, resize func(like *os.File) error) {
	changed := make(chan os.Signal, 1) // one is enough: the size is read after it
	signal.Notify(changed, syscall.SIGWINCH)
	defer signal.Stop(changed)
	for {
		resize(tty) // a terminal without a size is no reason to end
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
