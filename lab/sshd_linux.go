package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	hostKey    = "/etc/ssh/lab_host_ed25519_key"
	sshdConfig = "/etc/ssh/lab_sshd_config"

	sshdTimeout = 10 * time.Second // from the start of sshd to its first banner
	logLines    = 500              // of sshd's own words kept for SSHLog; a run says about ten per login
)

// sshd is the gateway's.
type sshd struct {
	cmd    *Cmd
	reader sync.WaitGroup

	mu  sync.Mutex
	log []string // the last logLines lines
}

// startSSHD starts sshd on the gateway and returns when it has greeted a client. The
// caller waits for what it returns, even with an error, unless that is nil.
func startSSHD(ctx context.Context, m *Machine, extra []string) (*sshd, error) {
	// The first value of a keyword wins, and a Match block lasts to the end.
	match := len(extra)
	if i := slices.IndexFunc(extra, func(line string) bool { return strings.HasPrefix(line, "Match ") }); i >= 0 {
		match = i
	}
	lines := append(slices.Clone(extra[:match]),
		fmt.Sprintf("Port %d", SSHPort),
		"HostKey "+hostKey,
		"PidFile none",
		"UsePAM no",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password",
		"PermitTunnel yes", // for the comparison with ssh -w, which needs root
		"UseDNS no",
		"MaxStartups 200",
		"MaxSessions 200",
		"LogLevel VERBOSE",
		"Subsystem sftp internal-sftp",
	)
	// OpenSSH 9.8 and later shut out who fails too often, which tests do on
	// purpose; earlier ones do not know the word.
	for _, penalties := range [][]string{{"PerSourcePenalties no"}, nil} {
		text := strings.Join(slices.Concat(lines, penalties, extra[match:]), "\n") + "\n"
		if err := m.WriteFile(sshdConfig, []byte(text), 0o600, "root"); err != nil {
			return nil, err
		}
		out, err := m.Command(ctx, "/usr/sbin/sshd", "-t", "-f", sshdConfig).CombinedOutput()
		if err == nil {
			break
		}
		if penalties == nil {
			return nil, fmt.Errorf("lab: gateway: checking sshd's settings: %w: %s", err, bytes.TrimSpace(out))
		}
	}

	s := &sshd{cmd: m.Command(context.Background(), "/usr/sbin/sshd", "-D", "-e", "-f", sshdConfig)}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("lab: gateway: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	listening := make(chan bool, 1)
	s.reader.Go(func() { s.read(stderr, listening) })

	ctx, cancel := context.WithTimeout(ctx, sshdTimeout)
	defer cancel()
	select {
	case up := <-listening:
		if !up {
			return s, fmt.Errorf("lab: gateway: sshd ended: %s", s.text())
		}
	case <-ctx.Done():
		return s, fmt.Errorf("lab: gateway: waiting for sshd to listen: %w", context.Cause(ctx))
	}
	if err := greeted(ctx, m); err != nil {
		return s, fmt.Errorf("lab: gateway: waiting for sshd's banner: %w: %s", err, s.text())
	}
	return s, nil
}

// greeted connects to sshd and reads the start of its banner (RFC 4253, section 4.2).
func greeted(ctx context.Context, m *Machine) error {
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	var c net.Conn
	for {
		var err error
		c, err = m.Dial(ctx, "tcp", netip.AddrPortFrom(Gateway6, SSHPort).String())
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EHOSTUNREACH) { // an address of one's own is reached a moment after its link is up
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		c.SetDeadline(deadline)
	}
	var banner [4]byte
	if _, err := io.ReadFull(c, banner[:]); err != nil {
		return err
	}
	if string(banner[:]) != "SSH-" {
		return errors.New("the port answered something else")
	}
	return nil
}

// read keeps what sshd says until it ends. It tells listening once: true when both
// of its sockets listen, false when it ended before.
func (s *sshd) read(r io.Reader, listening chan<- bool) {
	sockets := 0
	scanner := bufio.NewScanner(r) // a line above 64 KiB ends the log, no more
	for scanner.Scan() {
		line := strings.TrimSuffix(scanner.Text(), "\r")
		s.mu.Lock()
		if len(s.log) == logLines {
			s.log = s.log[1:]
		}
		s.log = append(s.log, line)
		s.mu.Unlock()
		if strings.HasPrefix(line, "Server listening on ") {
			if sockets++; sockets == 2 {
				listening <- true
			}
		}
	}
	if sockets < 2 {
		listening <- false
	}
	io.Copy(io.Discard, r)
}

func (s *sshd) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.log, "\n")
}

// wait returns when sshd and the reader of its log have ended.
func (s *sshd) wait() {
	s.reader.Wait()
	s.cmd.Wait()
}

// SSHLog is what the gateway's sshd said last: who logged in, who was refused.
func (l *Lab) SSHLog() string { return l.sshd.text() }
