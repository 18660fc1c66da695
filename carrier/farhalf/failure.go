package farhalf

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
)

const (
	hintShell   = `see what "ssh HOST true" prints; the account needs a shell that runs commands, or the forced command "bodkin far"`
	hintInstall = `install bodkin there and let the key run it: command="bodkin far" in authorized_keys`
)

// hintsInShell are what to try instead where the way is not ssh.
var hintsInShell = strings.NewReplacer(
	hintShell, "log in there by hand: what leads up to here must end where a shell reads commands",
	hintInstall, "set XDG_CACHE_HOME there to a private directory where programs may run",
)

// failures says for each code of FAIL what it means and what to try.
var failures = map[string]struct{ reason, hint string }{
	"nodir":     {"the far side has no directory that it can be put in", "make ~/.cache writable there, or " + hintInstall},
	"unsafe":    {"the far side has no private directory that it can be put in", "remove what is in its place there, or " + hintInstall},
	"noexec":    {"the far side lets no program run from where the account may write", hintInstall},
	"nospace":   {"the far side's disk is full, or the account's quota is used up", "make room there, or " + hintInstall},
	"short":     {"the far side could not store it whole", "look for a full disk or a broken gzip there"},
	"hash":      {"it arrived damaged at the far side", "try again; if that does not help, suspect the disk there"},
	"notty":     {"the far side gives no terminal", "the account must be permitted one: no PermitTTY no in sshd_config, no restrict or no-pty in authorized_keys"},
	"noprogram": {"the far side has no such program", "install it there, or give its whole path"},
	"nostty":    {"the far side cannot set its terminal raw", "install coreutils or busybox there, for stty"},
	"nodecoder": {"the far side has nothing that decodes base64", "install coreutils, busybox or openssl there"},
	"nohash":    {"the far side has nothing that checks SHA-256", "install coreutils, busybox or openssl there"},
	"garbled":   {"the way to the far side lost part of what was typed", "look for a line without flow control, or for something that takes only short lines"},
	"nokey":     {"the far half has no key that we could know it by", "make one there with `bodkin key new` or ssh-keygen, and pair the two: see bodkin help key"},
	"notrun":    {"the far side took it but cannot put it in its place", hintInstall},
}

// failure is the error for a FAIL line.
func (st *starting) failure(code, text string) error {
	f, known := failures[code]
	if !known {
		return st.refused(fmt.Sprintf("it failed to start: %s: %s", code, text), hintInstall, nil)
	}
	if code == "nokey" {
		return &carrier.RefusedError{Layer: "key", Reason: f.reason + ": " + text, Hint: f.hint}
	}
	return st.refused(f.reason+": "+text, f.hint, nil)
}

// waitings says what each verb that is waited for means, and what to look at if it does
// not come.
var waitings = map[string]struct{ what, hint string }{
	"SHELL": {"waiting for the shell to run our line", "log in there by hand: what leads up to here must end where a shell reads commands"},
	"READY": {"waiting for it to start", "look at the far side's load, and at its disk"},
	"SEND":  {"waiting for the far side to make room for it", "look at the far side's load, and at its disk"},
	"GOT":   {"sending it", "look for a way that loses octets, or takes only short lines"},
}

// silent is the error for a far side that says no more.
func (st *starting) silent() error {
	w := waitings[st.waiting]
	return &carrier.SilenceError{
		Layer:  "far half",
		Reason: fmt.Sprintf("%s: nothing came for %v, and %d octets before%s", w.what, st.Silence, st.heard, st.saying()),
		Hint:   w.hint,
	}
}

// notRunPattern is how a shell's complaint names a build that it was to become.
var notRunPattern = regexp.MustCompile(`/bodkin-[A-Za-z0-9._-]+-[0-9a-f]{64}`)

// hungUp is the error for a shell, or what it became, that ended in the middle.
func (st *starting) hungUp(err error) error {
	said := st.saying()
	if notRunPattern.MatchString(strings.Join(st.dialogue.said.Lines(), " ")) {
		return st.refused("the far side does not let it run"+said, hintInstall, err)
	}
	w := waitings[st.waiting]
	return &carrier.HangUpError{
		Layer:  "far half",
		Reason: fmt.Sprintf("%s: the far side ended after %d octets%s", w.what, st.heard, said),
		Hint:   w.hint,
		Err:    err,
	}
}

// ended is the error for a Stream that ended in the middle of the dialogue.
func (st *starting) ended(err error) error {
	var refused *carrier.RefusedError
	var hungUp *carrier.HangUpError
	switch {
	case errors.As(err, &refused), errors.As(err, &hungUp):
		return err
	case st.shellScript != "":
		return st.hungUp(err)
	}
	// A status says that the login worked and its shell, or what stands in its
	// place, is what ended: that will happen again.
	// After the upload, 126 and 127 are what exec in the script ends with, before
	// it only 126 is (sh, XCU 2.8.2).
	var exit interface{ ExitCode() int }
	status := 0
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	}
	switch {
	case status == 126, status == 127 && st.result.Uploaded:
		return st.refused("the far side does not let it run: "+err.Error()+st.saying(), hintInstall, err)
	case status > 0:
		return st.refused("the login ended without starting it: "+err.Error()+st.saying(), hintShell, err)
	case carrier.IsClosed(err):
		return st.refused("the login ended without starting it"+st.saying(), hintShell, err)
	}
	return fmt.Errorf("far half: %w%s", err, st.saying())
}

func (st *starting) refused(reason, hint string, err error) error {
	if st.shellScript != "" {
		hint = hintsInShell.Replace(hint)
	}
	return &carrier.RefusedError{Layer: "far half", Reason: reason, Hint: hint, Err: err}
}

// saying is what the far side printed last, as the end of a sentence. An echo of what
// was typed is not it.
func (st *starting) saying() string {
	st.dialogue.said.Write(st.dialogue.buf)
	st.dialogue.buf = nil
	for _, line := range slices.Backward(st.dialogue.said.Lines()) {
		if !strings.Contains(line, st.Nonce) {
			return fmt.Sprintf("; the far side said: %q", line)
		}
	}
	return ""
}
