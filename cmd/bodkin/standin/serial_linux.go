package standin

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bodkin-net/bodkin/config/pppd"
)

// setSerial sets what the options say of a serial line, on a terminal that is raw
// already and gets its modes back when it is closed. restore gives back what modes
// are not.
func setSerial(tty *os.File, o *pppd.Line) (restore func(), err error) {
	raw, err := tty.SyscallConn()
	if err != nil {
		return nil, err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = setTermios(int(fd), o) }); err != nil {
		return nil, err
	}
	if failed != nil {
		return nil, failed
	}
	return hideFromOthers(tty), nil
}

func setTermios(fd int, o *pppd.Line) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS2)
	if err != nil {
		return fmt.Errorf("its modes: %w", err)
	}
	before := *t
	if o.Speed != 0 {
		// Any speed by number: termios2 (ioctl_tty(2)).
		t.Cflag = t.Cflag&^(unix.CBAUD|unix.CBAUD<<16) | unix.BOTHER | unix.BOTHER<<16
		t.Ispeed, t.Ospeed = uint32(o.Speed), uint32(o.Speed)
	}
	set := func(flags *uint32, bit uint32, s pppd.Switch) {
		switch s {
		case pppd.On:
			*flags |= bit
		case pppd.Off:
			*flags &^= bit
		}
	}
	set(&t.Cflag, unix.CRTSCTS, o.CRTSCTS)
	set(&t.Cflag, unix.CLOCAL, o.Local)
	if o.XONXOFF {
		t.Iflag |= unix.IXON | unix.IXOFF
	}
	if *t == before {
		return nil
	}
	if err := unix.IoctlSetTermios(fd, unix.TCSETS2, t); err != nil {
		return fmt.Errorf("setting its speed and flow control: %w", err)
	}
	if now, err := unix.IoctlGetTermios(fd, unix.TCGETS2); err == nil && o.Speed != 0 && now.Ospeed != uint32(o.Speed) {
		return fmt.Errorf("it has no speed of %d baud", o.Speed)
	}
	return nil
}
