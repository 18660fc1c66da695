package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
)

// Dial connects to the client of that name that stands at the server of this machine.
// The Stream is where a near side opens its link: it is answered in the client's place.
// The name is a legal one. ctx bounds the call, not the Stream. Of a client that is not
// there, or used by somebody else, the error is a *carrier.RefusedError or, if it is
// away for now, a *carrier.UnreachedError.
func Dial(ctx context.Context, name string) (carrier.Stream, error) {
	conn, err := connect(ctx)
	if err != nil {
		return carrier.Stream{}, err
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	_, err = io.WriteString(conn, "use "+name+"\n")
	var answer string
	if err == nil {
		answer, err = readLine(conn, 1024)
	}
	switch {
	case !stop():
		err = context.Cause(ctx)
	case err != nil:
		err = &carrier.HangUpError{Layer: "reach", Reason: "the server of this machine ended the connection", Err: err}
	case answer != "ok":
		err = &carrier.UnreachedError{Layer: "reach", Reason: carrier.Printable(answer), Hint: "`bodkin serve status` says who is there"}
	}
	if err != nil {
		conn.Close()
		return carrier.Stream{}, err
	}
	return streamOf(conn), nil
}

// connect connects to the control socket of the present user's server. For root that may
// be somebody else's: whoever called sudo, or, if just one server runs on this machine,
// its owner.
func connect(ctx context.Context) (*net.UnixConn, error) {
	conn, err := connectIn(ctx, directory())
	if err != nil || conn != nil {
		return conn, err
	}
	if os.Geteuid() == 0 {
		if uid := os.Getenv("SUDO_UID"); uid != "" {
			for _, dir := range userDirs(uid) {
				if conn, err := connectIn(ctx, dir); err != nil || conn != nil {
					return conn, err
				}
			}
		}
		return connectToOnly(ctx)
	}
	return nil, errNone
}

var errNone = report.WithHint(errors.New("no server of this user's runs on this machine"), "`bodkin serve` runs one; what root or a service runs, root alone may ask")

// userDirs are where a user's server may have its socket; uid "*" is everybody.
func userDirs(uid string) []string {
	return []string{filepath.Join("/run/user", uid, "bodkin-serve"), filepath.Join(os.TempDir(), "bodkin-serve-"+uid)}
}

// connectToOnly connects to the only server of any user's.
func connectToOnly(ctx context.Context) (only *net.UnixConn, err error) {
	for _, pattern := range userDirs("*") {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			conn, err := connectIn(ctx, dir)
			switch {
			case err != nil || conn == nil:
				continue
			case only != nil:
				only.Close()
				conn.Close()
				return nil, report.WithHint(errors.New("servers of several users run on this machine"), "ask as the one whose it is: sudo -u NAME, or sudo from there")
			}
			only = conn
		}
	}
	if only == nil {
		return nil, errNone
	}
	return only, nil
}

// connectIn connects to the server that has its socket in dir, which is closed to all but
// its owner. Without one there it returns neither.
func connectIn(ctx context.Context, dir string) (*net.UnixConn, error) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return nil, nil
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(dir, socketName))
	switch {
	case err == nil:
		return conn.(*net.UnixConn), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ECONNREFUSED):
		return nil, nil
	}
	return nil, fmt.Errorf("the server of this machine: %w", err)
}

// ask asks the server of this machine, and decodes the answer.
func ask(ctx context.Context, request string, answer any) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(requestTimeout))
	if _, err := io.WriteString(conn, request+"\n"); err != nil {
		return err
	}
	if err := json.NewDecoder(io.LimitReader(conn, answerMax)).Decode(answer); err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	return nil
}
