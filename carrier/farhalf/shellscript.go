package farhalf

import (
	"fmt"
	"strings"
)

// typed is what /bin/sh runs in the place of the shell that we type into. It may hold
// what script may.
//
// The terminal stops echoing. It still gives lines, not octets, since bash's read takes
// all that is there and loses what follows the line; and CR ends them as LF does, since
// ways differ in what they make of either. Then the marker says that this is so, and
// what comes next is read here and by nobody else: a script, in pieces.
//
//	: 'piece'    appended to the script, s; $1 is the quote
//	:            the script is whole, and runs
//
// It reads again after an end: a NUL beside the CR that ended our line, if a shell that
// edits lines itself left it there, is one to Linux.
//
// All that we send after the marker are lines that begin with a colon and, the base64
// of an upload apart, have the rest in quotes. In any shell such a line does nothing.
// That is for the shell in which somebody has typed what led to this one (su, telnet)
// and which comes back when this one dies.
const typed = `s=;t=pipe;[ -t 0 ]&&t=tty&&stty icanon icrnl -echo;echo BODKIN $0 SHELL $t;` +
	`while read -r c||read -r c;do case $c in *$1*)c=${c#*$1};s=$s${c%$1*};;*:*)eval "$s";exit;esac;done`

// typedLine returns the one line that is typed, without its end: at most 250 octets,
// since old systems take 255 in a line. The space in front keeps it out of the history
// of many a shell; the dot behind catches a CR that a pipe brings before the LF.
func typedLine(nonce string) string {
	return " exec /bin/sh -c '" + typed + "' " + nonce + ` "'" .`
}

// pieceLength is how much of a script there is in a line: as in typedLine.
const pieceLength = 200

// pieces returns a script as the lines that typed reads, each ended by end. It runs if
// it is as long as it should be.
func pieces(script, end string) string {
	body := oneLine(script)
	whole := body
	for before := -1; len(whole) != before; {
		before = len(whole)
		whole = fmt.Sprintf(`[ ${#s} = %d ] || { echo "BODKIN $0 FAIL garbled ${#s} of %[1]d octets"; exit 1; }; %s`, before, body)
	}
	var lines strings.Builder
	for rest := whole; rest != ""; {
		n := min(pieceLength, len(rest))
		for rest[n-1] == '\\' { // which fish would take with the quote behind it
			n--
		}
		lines.WriteString(": '" + rest[:n] + "'" + end)
		rest = rest[n:]
	}
	return lines.String() + ":" + end
}

// shellScript is script for a shell that is typed into: what is sent is text, in
// blocks of lines. Each block is asked for by "BODKIN nonce GOT" after the one before,
// so nothing is read ahead, and nothing but a block is ever on its way.
//
//	b       what decodes base64 here; each candidate is tried
//	blocks  passes on the lines of all blocks: ": -" comes before each, a line with a
//	        dot ends it, and ": --" ends them all
//
// A hang-up is seen as the end of what there is to read, so that what was received by
// then is removed.
const shellScript = `
n=$0; trap : HUP;
` + findPlace + `
u64() { { echo begin-base64 600 -; cat; echo ====; } | uudecode -o /dev/stdout; };
bu64() { { echo begin-base64 600 -; cat; echo ====; } | busybox uudecode -o /dev/stdout; };
b=;
for x in "base64 -d" "openssl base64 -d" "busybox base64 -d" "base64 -D" u64 bu64 "python3 -m base64 -d"; do
 [ "$(echo Ym9ka2lu | $x 2>/dev/null)" = bodkin ] && b=$x && break;
done;
[ "$b" ] || { say FAIL nodecoder "there is no base64, openssl, uudecode, busybox or python3"; exit 1; };
z=plain; command -v gzip >/dev/null 2>&1 && z=gzip;
say NEED "$(uname -s)" "$m" "$z";
while read -r x z k s h x; do [ "$x" ] && break; done;
[ "$x" ] || exit 1;
` + reserve + `
blocks() {
 while read -r x q; do
 case $q in
 --*) break;;
 -*) LC_ALL=C sed -n "/[.]/q;/[0-9A-Za-z]/p" || break; say GOT >&3;;
 esac;
 done;
};
exec 3>&1;
e=$({ blocks | LC_ALL=C tr -cd "A-Za-z0-9+/=\012" | $b | if [ "$z" = gzip ]; then gzip -dc; else cat; fi; } 2>&1 >"$t");
exec 3>&-;
` + whole + `
set --;
for x in sha256sum "shasum -a 256" "openssl dgst -sha256 -r" "sha256 -q" "busybox sha256sum"; do
 set -- $($x <"$t" 2>/dev/null);
 [ ${#1} = 64 ] && break;
done;
[ ${#1} = 64 ] || { rm -f "$t"; say FAIL nohash "there is no sha256sum, shasum, openssl, sha256 or busybox"; exit 1; };
` + undamaged + become

// programInShell is programScript for a shell that is typed into. The terminal becomes
// wholly raw when nothing of ours is to come before the program's own octets.
const programInShell = `
n=$0;
` + forPrograms + `
ready() {
 [ -t 0 ] && { stty raw -echo -iexten 2>/dev/null || stty raw -echo ||
 { say FAIL nostty "stty does not do it"; exit 1; }; };
 say READY 1;
};
` + becomeProgram

// shellScriptFor returns shellScript for the builds at hand, with the flags that the
// far half gets.
func shellScriptFor(bs Builds, open bool) string {
	flags := "--line"
	if open {
		flags += " --insecure-accept-eavesdropping"
	}
	return `l="` + flags + `"; hs="` + strings.Join(bs.Hashes(), " ") + `"; ` + shellScript
}

// programInShellFor returns programInShell for a command line. Its octets other than
// letters and digits are octal numbers for printf: no quote of its own ends ours.
func programInShellFor(command string) string {
	var octets strings.Builder
	for _, b := range []byte(command) {
		if '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' {
			octets.WriteByte(b)
		} else {
			fmt.Fprintf(&octets, `\0%03o`, b)
		}
	}
	return `c=$(printf "%b" "` + octets.String() + `"); ` + programInShell
}
