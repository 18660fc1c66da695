//go:build !linux

package privilege

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/bodkin-net/bodkin/cmd/bodkin/report"
	"github.com/bodkin-net/bodkin/host"
)

// A Helper is the near end of the host helper, which only Linux has so far.
type Helper struct{}

// A Resolver is a DNS forwarder's sockets.
type Resolver struct {
	Addr netip.Addr
	UDP  net.PacketConn
	TCP  net.Listener
}

var errUnsupported = errors.New("bodkin up works on Linux only so far")

// Start starts nothing.
func Start(io.Writer) (*Helper, error) {
	return nil, report.At(report.Privilege, errUnsupported, "run it on Linux")
}

func (p *Helper) How() string                                   { return "" }
func (p *Helper) Hello(context.Context) ([]string, error)       { return nil, errUnsupported }
func (p *Helper) Control(string, string, syscall.RawConn) error { return errUnsupported }
func (p *Helper) Mark() uint32                                  { return 0 }
func (p *Helper) Device(string) (*os.File, string, error)       { return nil, "", errUnsupported }
func (p *Helper) Resolver() (*Resolver, error)                  { return nil, errUnsupported }
func (p *Helper) Set(host.Wish) ([]string, error)               { return nil, errUnsupported }
func (p *Helper) Look() []string                                { return nil }
func (p *Helper) Gone() <-chan struct{}                         { return nil }
func (p *Helper) Undo() ([]string, error)                       { return nil, errUnsupported }
func (p *Helper) Close() error                                  { return nil }

// Serve serves nobody.
func Serve() error { return errUnsupported }

// JournalDir is nowhere: there are no journals.
func JournalDir() string { return "" }

// GiveUp has nothing to give up where nothing needs root.
func GiveUp() (string, error) { return "", nil }

// HasNetAdmin reports that the network is not ours to change.
func HasNetAdmin() bool { return false }
