package front

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// keepAlive finds a peer that died in silence within 15 + 3*10 seconds.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 10 * time.Second, Count: 3}

// answerTime is how long somebody at a Unix socket may take to answer before ours
// takes its place. A live one answers at once, or its queue is full.
const answerTime = time.Second

// A Listener is a net.Listener with a name, for logs.
type Listener struct {
	net.Listener
	Name string
}

// listenerName returns the name of a Listener, or the address.
func listenerName(l net.Listener) string {
	if named, ok := l.(*Listener); ok {
		return named.Name
	}
	return l.Addr().String()
}

// A Control sets up a socket before it listens, as in net.ListenConfig, or one that
// listens already. What it sets is what connections have from their listener.
type Control = func(network, address string, raw syscall.RawConn) error

// ListenTCP listens on address, "host:port" or ":port"; port 0 means any that is free.
// control may be nil.
func ListenTCP(ctx context.Context, address string, control Control) (*Listener, error) {
	config := net.ListenConfig{KeepAliveConfig: keepAlive, Control: control}
	config.SetMultipathTCP(false) // its sockets do not have all from their listener
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	return &Listener{l, l.Addr().String()}, nil
}

// ListenUnix listens on a Unix socket, which whoever may write to it by mode may connect to.
// It never is open wider than that. A socket that is there already is replaced if nobody
// answers at it; anything else that is there stays, and is an error. Close removes it.
func ListenUnix(ctx context.Context, path string, mode fs.FileMode) (*Listener, error) {
	if strings.HasPrefix(path, "@") {
		return nil, fmt.Errorf("front: %s: a socket in no directory cannot be kept from anybody", path)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	config := net.ListenConfig{Control: narrow(mode)}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	if err := os.Chmod(path, mode.Perm()); err != nil {
		l.Close()
		return nil, fmt.Errorf("front: %w", err)
	}
	return &Listener{l, "unix:" + path}, nil
}

// removeStale removes a socket at which nobody answers.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s: it is there, and no socket", path)
	}
	dialer := net.Dialer{Timeout: answerTime}
	c, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s: somebody listens there already", path)
	}
	if !refused(err) {
		return err
	}
	return os.Remove(path)
}
