package farhalf

import (
	"context"
	"errors"
	"strings"

	"github.com/bodkin-net/bodkin/carrier"
)

// programScript starts another program than bodkin, with the same manners as
// script and under the same restrictions of what it may hold. The order is what
// keeps all apart: the terminal is raw before anything is asked for, the command
// comes as data that no echo shows and no login shell splits, and the program
// takes the shell's place, so that no prompt comes back when it ends.
const programScript = `
n=$1; ready() { say READY 1; };
` + forPrograms + `
if [ "$2" = tty ]; then
 stty raw -echo -iexten 2>/dev/null || stty raw -echo 2>/dev/null ||
 { say FAIL notty "no terminal was given"; exit 1; };
fi;
say ASK "$2";
IFS= read -r c || exit 1;
` + becomeProgram

// forPrograms is what the scripts for other programs begin with: no globbing, a
// PATH with the directories of pppd, and the way to speak to us.
const forPrograms = `
set -f; PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin;
say() { echo "BODKIN $n $*"; };
`

// becomeProgram becomes the program of the command line c, right after ready: by exec if
// it is one program and its arguments, else by a shell for it.
const becomeProgram = `
p=${c%% *};
if [ -z "$(echo "$p" | tr -d A-Za-z0-9_./+-)" ]; then
 command -v "$p" >/dev/null 2>&1 || { say FAIL noprogram "$p"; exit 1; };
 case $c in
 *";"*|*"&"*|*"|"*) ;;
 *) ready; eval "exec $c"; exit 126;;
 esac;
fi;
ready; exec /bin/sh -c "$c"
`

// Program returns the command line that starts a program of the far side's own,
// for any login shell; which program, StartProgram says. onTerminal says that the
// login has a terminal, which is made raw before the program can write.
func Program(nonce string, onTerminal bool) string {
	how := "pipe"
	if onTerminal {
		how = "tty"
	}
	return "exec /bin/sh -c '" + oneLine(programScript) + "' bodkin " + nonce + " " + how
}

// maxCommand bounds a command line: what a POSIX shell must read in one line
// (_POSIX2_LINE_MAX), less than any terminal's buffer.
const maxCommand = 2048

// StartProgram has the far side of a Stream that runs Program start command, one
// line for /bin/sh there, and returns the Stream of the program's standard input
// and output. No octet of ours is sent after the command before the far side has
// said that its terminal is raw and the program is next; none of the program's is
// lost. What the shell printed before is not part of the Stream.
//
// Errors are as those of Start. If ctx ends first, so does StartProgram.
func StartProgram(ctx context.Context, s carrier.Stream, nonce, command string) (carrier.Stream, error) {
	if err := checkCommand(command); err != nil {
		s.Close()
		return carrier.Stream{}, err
	}
	return start(ctx, &starting{Stream: s, Options: Options{Nonce: nonce}, command: command})
}

func checkCommand(command string) error {
	if strings.TrimSpace(command) == "" || len(command) > maxCommand || strings.ContainsAny(command, "\n\r\x00") {
		return errors.New("far half: the command for the far side is not one line of 1 to 2,048 octets")
	}
	return nil
}

// runProgram answers ASK, and waits for READY.
func (st *starting) runProgram() error {
	if _, err := st.wait("ASK"); err != nil {
		return err
	}
	if _, err := st.Write([]byte(strings.TrimLeft(st.command, " \t") + "\n")); err != nil {
		return st.ended(err)
	}
	_, err := st.wait("READY")
	return err
}
