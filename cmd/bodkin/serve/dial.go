package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
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

// errNone is that no server runs.
var errNone = errors.New("no server of this user's runs on this machine")

// connect connects to the control socket of the server of this machine.
func connect(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	for _, dir := range directories() {
		conn, err := d.DialContext(ctx, "unix", filepath.Join(dir, socketName))
		switch {
		case err == nil:
			return conn.(*net.UnixConn), nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ECONNREFUSED):
		default:
			return nil, fmt.Errorf("the server of this machine: %w", err)
		}
	}
	return nil, report.WithHint(errNone, "`bodkin serve` runs one; what root or a service runs, root alone may ask")
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
