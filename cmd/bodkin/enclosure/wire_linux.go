package enclosure

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// What the two ends say to each other, as JSON in the packets of a Unix socket:
//
//	process 1    outside
//	ready  --->            the namespaces stand; the device's file comes along
//	key    --->            Ctrl-C or Ctrl-\ was pressed; at any time
//	       <---  set       the Settings
//	done   --->
//	       <---  run
//	done   --->            the command runs
//	       <---  end       the tunnel is gone: the command shall end
//	ended  --->            all that ran inside is gone; the command's status
//
// An error in place of ready, of done after set, or of done after run is the last that
// process 1 says. The end of the socket says that the other process has ended.
type message struct {
	Verb     string    `json:"verb"`
	Settings *Settings `json:"settings,omitempty"` // set
	Name     string    `json:"name,omitempty"`     // ready: what the device is called
	Notes    []string  `json:"notes,omitempty"`    // ready, done: for people
	Status   int       `json:"status,omitempty"`   // ended, failed at run: the command's exit status
	Failure  *failure  `json:"failure,omitempty"`  // failed
}

// A failure is what process 1 could not do.
type failure struct {
	Step  step          `json:"step"`
	Text  string        `json:"text"`
	Errno syscall.Errno `json:"errno,omitempty"` // the system's own word, or 0
}

func (f *failure) Error() string { return f.Text }

// The verbs of a message.
const (
	verbReady  = "ready"
	verbKey    = "key"
	verbSet    = "set"
	verbRun    = "run"
	verbDone   = "done"
	verbEnd    = "end"
	verbEnded  = "ended"
	verbFailed = "failed"
)

// A step is a part of what process 1 does.
type step string

// The steps, in their order.
const (
	stepMounts  step = "mounts"
	stepProc    step = "proc" // no /proc of a process namespace of one's own may be mounted
	stepNames   step = "names"
	stepCommand step = "command"
	stepDevice  step = "device"
	stepNetwork step = "network"
)

// at makes err the failure of a step.
func at(s step, err error) *failure {
	if err == nil {
		return nil
	}
	f := &failure{Step: s, Text: err.Error()}
	if !errors.As(err, &f.Errno) && errors.Is(err, fs.ErrPermission) {
		f.Errno = unix.EACCES
	}
	return f
}

// wireMax bounds a message, in octets: settings with all the routes that there may be
// stay below it.
const wireMax = 192 << 10

// send writes one message, with a file beside it where there is one.
func send(conn *net.UnixConn, m message, file *os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > wireMax {
		return fmt.Errorf("a message of %d octets, more than %d", len(b), wireMax)
	}
	var rights []byte
	if file != nil {
		rights = unix.UnixRights(int(file.Fd()))
	}
	_, _, err = conn.WriteMsgUnix(b, rights, nil)
	return err
}

// receive reads one message and the file beside it, if any, which is the caller's. At
// the end of the socket it returns io.EOF.
func receive(conn *net.UnixConn) (m message, file *os.File, err error) {
	b := make([]byte, wireMax)
	rights := make([]byte, unix.CmsgSpace(4))
	n, rightsLen, flags, _, err := conn.ReadMsgUnix(b, rights)
	if err != nil {
		return m, nil, err
	}
	if rightsLen > 0 {
		if file, err = passed(rights[:rightsLen]); err != nil {
			return m, nil, err
		}
	}
	switch {
	case n == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("a message longer than there are")
	default:
		err = json.Unmarshal(b[:n], &m)
	}
	if err != nil && file != nil {
		file.Close()
		file = nil
	}
	return m, file, err
}

// passed takes the one file out of a control message (unix(7), SCM_RIGHTS).
func passed(rights []byte) (*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if fds, err := unix.ParseUnixRights(&m); err == nil && len(fds) == 1 {
			return os.NewFile(uintptr(fds[0]), "device"), nil
		}
	}
	return nil, nil
}
