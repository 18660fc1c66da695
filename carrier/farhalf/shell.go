package farhalf

import (
	"context"
	"fmt"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
)

// StartInShell starts the far half in the shell that reads from s: somebody's dialogue
// has got to where it reads commands, from a terminal or from a pipe. It may be sh,
// bash, dash, zsh, fish, tcsh or busybox's.
//
//	near half                              far side
//	---------                              --------
//	exec /bin/sh -c '...' nonce       -->  the one line that a login shell reads
//	                                  <--  BODKIN nonce SHELL tty
//	: 'l="--line"; hs="..."; n=$0'   -->  the script, whose end is ":"
//	:                                 <--  BODKIN nonce NEED Linux x86_64 gzip
//	: gzip 5012345 15012345 hash .    -->
//	                                  <--  BODKIN nonce SEND /home/me/.cache/bodkin
//	: -                               -->  a block of base64, in lines
//	: H4sIAAAAAAAA...
//	: .                               <--  BODKIN nonce GOT
//	: --                              -->  all is sent: checked, renamed, run
//	                                  <--  BODKIN nonce READY 1
//
// What is typed to the login shell is one line, and is not repeated: its place is
// taken by /bin/sh, and that one's by the far half ("bodkin far --nonce N --line"), so
// when the far half ends, no prompt comes back that could read what we still send. No
// echo of the line holds the marker. Each of our later lines waits for the marker that
// asks for it, or directly follows another of ours; all are printable ASCII, and of
// 250 octets at most.
//
// The Stream returned begins after READY. If the far side is on a terminal, Unsafe has
// what terminals act upon, although the far half sets its own raw before READY: there
// may be others on the way. Where the way makes more of our line end than one octet,
// the far half may read the rest of it, an LF or a NUL, before our first.
//
// Errors: a *carrier.RefusedError if trying again would end the same way, a
// *carrier.HangUpError if the far side ended in the middle, a *carrier.SilenceError if
// it says nothing for o.Silence. If ctx ends first, so does StartInShell. On an error
// the Stream is closed, and whoever reads commands at its far side reads no more of us.
func StartInShell(ctx context.Context, s carrier.Stream, o Options) (carrier.Stream, Result, error) {
	st := newInShell(s, o, shellScriptFor(o.Builds, o.Open))
	s, err := start(ctx, st)
	return s, st.result, err
}

// StartProgramInShell starts another program than bodkin so: command, which is as for
// StartProgram. The Stream returned is of the program's terminal or pipe; a terminal
// is raw before the program runs. Of o, Builds and Progress are not used.
func StartProgramInShell(ctx context.Context, s carrier.Stream, o Options, command string) (carrier.Stream, error) {
	if err := checkCommand(command); err != nil {
		s.Close()
		return carrier.Stream{}, err
	}
	return start(ctx, newInShell(s, o, programInShellFor(strings.TrimLeft(command, " \t"))))
}

func newInShell(s carrier.Stream, o Options, script string) *starting {
	if o.Nonce == "" {
		o.Nonce = NewNonce()
	}
	if o.LineEnd == "" {
		o.LineEnd = "\r"
	}
	if o.Silence == 0 {
		o.Silence = defaultSilence
	}
	return &starting{Stream: s, Options: o, shellScript: script}
}

// runInShell leads the dialogue with a shell.
func (st *starting) runInShell() error {
	st.dialogue.limit = maxShown
	m, err := st.exchange(typedLine(st.Nonce)+st.LineEnd, "SHELL")
	if err != nil {
		return err
	}
	if m.args[0] == "tty" {
		for b := range byte(' ') {
			st.Unsafe.Add(b)
		}
		st.Unsafe.Add(0x7f)
	}
	m, err = st.exchange(pieces(st.shellScript, st.LineEnd), "READY", "NEED")
	if err == nil && m.verb == "NEED" {
		m, err = st.uploadText(m)
	}
	if err != nil {
		return err
	}
	return checkVersion(m)
}

// exchange sends text, and waits for one of the verbs, or FAIL. Both go on at the same
// time: a far side that echoes waits for us to read.
func (st *starting) exchange(text string, verbs ...string) (message, error) {
	st.dialogue.limit += maxEcho * len(text)
	st.silence.sent(len(text))
	wrote := make(chan error, 1)
	go func() {
		_, err := st.Write([]byte(text))
		wrote <- err
	}()
	m, err := st.wait(verbs...)
	if err != nil {
		st.Close()
		<-wrote
		return message{}, err
	}
	if err := <-wrote; err != nil {
		return message{}, st.ended(fmt.Errorf("writing: %w", err))
	}
	return m, nil
}

// afterCR is a Stream whose first octet, if it is an LF, belongs to the line before,
// which ended in CR.
type afterCR struct {
	carrier.Stream
	begun bool
}

func (a *afterCR) Read(b []byte) (int, error) {
	n, err := a.Stream.Read(b)
	if a.begun || n == 0 {
		return n, err
	}
	a.begun = true
	if b[0] == '\n' {
		n = copy(b, b[1:n])
		if n == 0 && err == nil {
			return a.Stream.Read(b)
		}
	}
	return n, err
}
