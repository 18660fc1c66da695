package lab

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// traceShell is a login shell: the real one under strace, which writes down each
// read(2) of the shell itself. It lets go of it where it executes another program in
// its place (-b execve), and never follows its children.
const traceShell = `#!/bin/sh
umask 022
exec strace -I 1 -qq -b execve -o "/tmp/trace.$(date +%%s%%N).$$" -e trace=read -e signal=none -y -xx -s 65536 %s
`

// TraceShell makes a login shell of a shell, "/bin/sh", of which each octet that it
// reads from its terminal is written down, see Machine.Traces. What its children or a
// program in its place read is not. It returns its path.
func (m *Machine) TraceShell(shell string) (path string, err error) {
	path = "/usr/local/bin/trace-" + filepath.Base(shell)
	if err := m.Do(func() error { _, err := lookPath("strace"); return err }); err != nil {
		return "", fmt.Errorf("lab: %s: making a trace shell: %w (Debian's package strace)", m.Name, err)
	}
	text := fmt.Sprintf(traceShell, quote([]string{shell}))
	return path, m.WriteFile(path, []byte(text), 0o755, "root")
}

// tracedRead is a line of strace: the path that was read, and what came, both as \x41.
var tracedRead = regexp.MustCompile(`(?m)^read\(\d+<((?:\\x[0-9a-f]{2})+)>, "((?:\\x[0-9a-f]{2})*)"`)

// Traces is what each shell that TraceShell made has read from its terminal so far,
// in the order they were started.
func (m *Machine) Traces() (traces []string, err error) {
	err = m.Do(func() error {
		files, err := filepath.Glob("/tmp/trace.*")
		if err != nil {
			return err
		}
		slices.Sort(files)
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			traces = append(traces, terminalReads(string(b)))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("lab: %s: reading what shells read: %w", m.Name, err)
	}
	return traces, nil
}

// terminalReads puts together what the reads of a terminal in strace's log brought.
func terminalReads(log string) string {
	var octets strings.Builder
	for _, line := range tracedRead.FindAllStringSubmatch(log, -1) {
		if path := unhex(line[1]); path == "/dev/tty" || strings.HasPrefix(path, "/dev/pts/") {
			octets.WriteString(unhex(line[2]))
		}
	}
	return octets.String()
}

// unhex decodes \x41, which the expression above has checked.
func unhex(text string) string {
	b, _ := hex.DecodeString(strings.ReplaceAll(text, `\x`, ""))
	return string(b)
}
