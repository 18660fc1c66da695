// Package farhalf starts bodkin at the far side of a login that gives nothing but
// a shell: nothing is installed there, and nobody there is root.
//
//	near half                                far side
//	---------                                --------
//	Command, to the login shell         -->  is a build with one of these hashes here?
//	                                         then it runs, and says READY
//	                                    <--  BODKIN nonce NEED Linux x86_64 gzip
//	gzip 5012345 15012345 hash          -->  is there a directory to run it from?
//	                                    <--  BODKIN nonce SEND /home/me/.cache/bodkin
//	5,012,345 octets                    -->  checked, renamed, run
//	                                    <--  BODKIN nonce READY 1
//
// After the line READY the Stream is the link's. Instead of any line may come
// "BODKIN nonce FAIL code text", and before any, whatever rc files print. Neither
// the text of the command nor an echo of it holds such a line.
package farhalf

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bodkin-net/bodkin/carrier"
)

// version is what READY says: the link that follows. Link versions are settled by
// the link itself; this one changes when the line's meaning does.
const version = "1"

// Options say what Start and StartInShell need to know.
type Options struct {
	Nonce  string // the one in the command; StartInShell makes one if it is empty
	Builds Builds // what can be sent

	// Progress, if not nil, is called while a build is sent, from another
	// goroutine, with octets of the compressed build; the last call has done equal
	// to total. Start returns after that.
	Progress func(done, total int64)

	// LineEnd is what a line ends in that is typed into a shell. Empty means "\r",
	// as a terminal's key sends it; a shell on a pipe wants "\n".
	LineEnd string

	// Silence is how long a shell, or what was started by it, may say nothing; a
	// minute if it is zero. Time for slow lines is added where much is sent. Start
	// knows no such limit.
	Silence time.Duration

	// Open has a far half that is started in a shell let in a near half that does not
	// prove who it is ("--insecure-accept-eavesdropping").
	Open bool
}

// A Result says what Start did.
type Result struct {
	Uploaded  bool
	Octets    int64  // sent for the upload, compressed
	Directory string // where the far side put it, printable; empty if not uploaded
}

// Start leads the dialogue on a Stream whose far side runs Command, and returns
// the Stream that the far half listens on. No octet that follows READY is lost.
//
// What cannot be helped by trying again is a *carrier.RefusedError with a hint. If
// ctx ends first, so does Start. On an error the Stream is closed.
func Start(ctx context.Context, s carrier.Stream, o Options) (carrier.Stream, Result, error) {
	st := &starting{Stream: s, Options: o}
	s, err := start(ctx, st)
	return s, st.result, err
}

// start leads the dialogue, and makes the Stream of what follows it.
func start(ctx context.Context, st *starting) (carrier.Stream, error) {
	closing := st.Stream.Close
	stop := context.AfterFunc(ctx, func() { closing() })
	st.dialogue = newDialogue(st.Nonce)
	if st.shellScript != "" {
		st.silence = listen(st.Silence, func() { closing() })
	}
	err := st.run()
	if st.silence != nil && st.silence.stop() {
		err = st.silent()
	}
	if !stop() && ctx.Err() != nil {
		err = fmt.Errorf("far half: waiting for it to start: %w%s", context.Cause(ctx), st.saying())
	}
	if err != nil {
		closing()
		return carrier.Stream{}, err
	}
	s := st.Stream
	if st.dialogue.afterCR {
		s.ReadWriteCloser = &afterCR{Stream: st.Stream}
	}
	return carrier.Unread(s, st.dialogue.buf), nil
}

// starting is one run of the dialogue.
type starting struct {
	carrier.Stream
	Options
	command     string // another program than bodkin is to be started
	shellScript string // what a shell is to run; empty: ssh has started it
	dialogue    *dialogue
	silence     *silence // nil where there is no limit
	waiting     string   // the verb waited for
	heard       int64    // octets that came
	result      Result
}

func (st *starting) run() error {
	switch {
	case st.shellScript != "":
		return st.runInShell()
	case st.command != "":
		return st.runProgram()
	}
	m, err := st.wait("READY", "NEED")
	if err != nil {
		return err
	}
	if m.verb == "NEED" {
		if m, err = st.upload(m); err != nil {
			return err
		}
	}
	return checkVersion(m)
}

// checkVersion checks what READY says.
func checkVersion(m message) error {
	if m.args[0] != version {
		return &carrier.RefusedError{
			Layer:  "far half",
			Reason: fmt.Sprintf("it speaks version %s of the start, and we version %s", m.args[0], version),
			Hint:   "install the same version of bodkin on both sides",
		}
	}
	return nil
}

// wait reads until one of the verbs comes, or FAIL.
func (st *starting) wait(verbs ...string) (message, error) {
	st.waiting = verbs[0]
	buf := make([]byte, 8192)
	for {
		m, ok, err := st.dialogue.next()
		switch {
		case err != nil:
			return message{}, st.refused(strings.TrimPrefix(err.Error(), "far half: ")+st.saying(), hintShell, err)
		case ok && m.verb == "FAIL":
			return message{}, st.failure(m.args[0], m.args[1])
		case ok:
			for _, v := range verbs {
				if m.verb == v {
					return m, nil
				}
			}
			return message{}, st.refused(fmt.Sprintf("it said %s out of turn", m.verb), hintShell, nil)
		}
		n, err := st.Read(buf)
		st.dialogue.push(buf[:n])
		st.heard += int64(n)
		if n > 0 && st.silence != nil {
			st.silence.heard()
		}
		if n == 0 && err != nil {
			return message{}, st.ended(err)
		}
	}
}

// prepare returns what NEED asks for, and the line that goes before it.
func (st *starting) prepare(need message) (header string, payload []byte, err error) {
	build, err := st.Builds.pick(need.args[0], need.args[1])
	if err != nil {
		return "", nil, err
	}
	how := need.args[2]
	payload, err = build.read(how == "gzip")
	return fmt.Sprintf("%s %d %d %s", how, len(payload), build.Size, build.Hash), payload, err
}

// upload answers NEED, and returns the message READY.
func (st *starting) upload(need message) (message, error) {
	header, payload, err := st.prepare(need)
	if err != nil {
		return message{}, err
	}
	if _, err := st.Write([]byte(header + "\n")); err != nil {
		return message{}, st.ended(err)
	}
	m, err := st.wait("SEND")
	if err != nil {
		return message{}, err
	}
	st.result = Result{Uploaded: true, Octets: int64(len(payload)), Directory: m.args[0]}

	// A far side that gives up says so while we still write: read meanwhile, and
	// let Close end a write that nobody takes any more.
	wrote := make(chan error, 1)
	go func() { wrote <- st.send(payload) }()
	m, err = st.wait("READY")
	if err != nil {
		st.Close()
		<-wrote
		return message{}, err
	}
	return m, <-wrote
}

// send writes the payload, block by block for the sake of Progress.
func (st *starting) send(payload []byte) error {
	const block = 64 << 10
	for done := 0; done < len(payload); {
		n, err := st.Write(payload[done:min(done+block, len(payload))])
		if err != nil {
			return fmt.Errorf("far half: sending it: %w", err)
		}
		done += n
		if st.Progress != nil {
			st.Progress(int64(done), int64(len(payload)))
		}
	}
	return nil
}
