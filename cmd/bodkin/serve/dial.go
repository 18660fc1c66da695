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
	"strconv"
	"syscall"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/cmd/bodkin/private"
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

// connect connects to the control socket of the present user's server. For root that is
// the service's, or that of whoever called sudo.
func connect(ctx context.Context) (*net.UnixConn, error) {
	if os.Geteuid() != 0 {
		return served(connectIn(ctx, directory(), os.Getuid()))
	}
	// systemd has given the directory to whoever runs the service.
	conn, err := connectIn(ctx, directory(), anybody)
	uid, bad := strconv.Atoi(os.Getenv("SUDO_UID"))
	if err != nil || conn != nil || bad != nil {
		return served(conn, err)
	}
	session, temporary := private.Of(directoryName, strconv.Itoa(uid))
	if conn, err = connectIn(ctx, session, uid); err == nil && conn == nil {
		conn, err = connectIn(ctx, temporary, uid)
	}
	return served(conn, err)
}

// served makes an error of it that there is no connection.
func served(conn *net.UnixConn, err error) (*net.UnixConn, error) {
	if err == nil && conn == nil {
		return nil, errNone
	}
	return conn, err
}

var errNone = report.WithHint(errors.New("no server of this user's runs on this machine"), "`bodkin serve` runs one; what root or a service runs, root alone may ask")

// anybody, of a directory in one of root's own, may be its owner.
const anybody = -1

// connectIn connects to the server that has its socket in dir, if that is uid's and
// closed to all others: whoever else made it there would get what goes to the client.
// Without one there it returns neither.
func connectIn(ctx context.Context, dir string, uid int) (*net.UnixConn, error) {
	if uid != anybody && !private.Is(dir, uid) {
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
