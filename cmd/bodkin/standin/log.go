package standin

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/bodkin-net/bodkin/carrier"
	"github.com/bodkin-net/bodkin/config/pppd"
)

// A logger takes what is said: to the standard error, and to a file or a
// descriptor. Where one of them is the line, nothing is written to that one: there it
// would be garbage among the frames, or at a prompt behind them. Its methods may be called from several
// goroutines.
type logger struct {
	debug atomic.Bool

	mu   sync.Mutex
	errw io.Writer
	file *os.File      // nil: none
	line []fs.FileInfo // what is the line, and not to be written to
}

// open opens the file, if one was asked for.
func (l *logger) open(o *pppd.Log) (err error) {
	l.debug.Store(o.Debug)
	switch {
	case o.File != "":
		l.file, err = os.OpenFile(o.File, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	case o.FD >= 0:
		l.file = os.NewFile(uintptr(o.FD), "descriptor "+strconv.Itoa(o.FD))
		if l.file != nil {
			_, err = l.file.Stat()
		}
	}
	if err != nil {
		l.file = nil
		return fmt.Errorf("the log: %w", err)
	}
	return nil
}

// printf says one line. What fails to be written is lost: there is nobody to be
// told.
func (l *logger) printf(format string, args ...any) {
	l.say(true, fmt.Sprintf(format, args...))
}

// debugf is printf for who wants to know more.
func (l *logger) debugf(format string, args ...any) {
	if l.debug.Load() {
		l.say(true, fmt.Sprintf(format, args...))
	}
}

// record puts a line into the file alone, for what the user is told otherwise.
func (l *logger) record(text string) { l.say(false, text) }

func (l *logger) say(terminal bool, text string) {
	text = carrier.Printable(text) + "\n"
	l.mu.Lock()
	defer l.mu.Unlock()
	if terminal && !l.isLine(l.errw) {
		io.WriteString(l.errw, text)
	}
	if l.file != nil && !l.isLine(l.file) {
		io.WriteString(l.file, text)
	}
}

// isLine reports whether w is the line.
func (l *logger) isLine(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || len(l.line) == 0 {
		return false
	}
	info, err := f.Stat()
	return err == nil && slices.ContainsFunc(l.line, func(line fs.FileInfo) bool { return os.SameFile(info, line) })
}

// setLine says which files are the line; a nil is none.
func (l *logger) setLine(files ...fs.FileInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = slices.DeleteFunc(files, func(f fs.FileInfo) bool { return f == nil })
}

// close closes the file.
func (l *logger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.file.Close()
		l.file = nil
	}
}
