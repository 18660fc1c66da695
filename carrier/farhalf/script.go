package farhalf

import (
	"crypto/rand"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
)

// script is what runs at the far side of ssh, in /bin/sh with the nonce and the
// hashes of the builds at hand as its arguments. It may use what POSIX has, and
// head -c; it holds no single quote, backslash, exclamation mark or line end (they
// are taken out by oneLine), for it stands between single quotes in the command line
// of any login shell, csh and fish among them.
const script = `
n=$1; shift; hs=$*; l=;
` + findPlace + `
z=plain; command -v gzip >/dev/null 2>&1 && z=gzip;
say NEED "$(uname -s)" "$m" "$z";
read -r z k s h || exit 1;
` + reserve + `
e=$(if [ "$z" = gzip ]; then head -c "$k" | gzip -dc; else head -c "$k"; fi 2>&1 >"$t");
` + whole + `
if command -v sha256sum >/dev/null 2>&1; then
 set -- $(sha256sum <"$t");
` + undamaged + `
fi;
` + become

// findPlace becomes the far half, by exec, if a wanted build is here, and is what
// every script begins with. It wants the nonce in n, the hashes in hs, and in l what
// else the far half is told.
//
// The private directory is one that ls says is ours alone. In a directory of all
// users, such as /tmp, its sticky bit keeps others from replacing it, and a name
// they took before us fails the test. Hence nothing inside it needs further proof.
//
//	mine    the directory $1 is no symlink, belongs to us, and has mode 0700
//	places  calls "$@" for each candidate directory d, until it is content
//	look    becomes the far half if d has one of the wanted builds for this machine
//	try     finds out whether d will do: an empty program runs (it does not on a
//	        file system mounted noexec), and there is room for $s octets (df does not
//	        know quotas); then it is reserved, and t is its name
const findPlace = `
t=; code=; why=; umask 077; set -f;
say() { echo "BODKIN $n $*"; };
u=$(id -u); m=$(uname -m); c=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}};
mine() {
 set -- $(ls -ldn "$1" 2>/dev/null);
 [ "$3" = "$u" ] || return 1;
 case $1 in drwx--[-S]---*) return 0;; esac;
 return 1;
};
places() {
 for d in "$c/bodkin" "${XDG_RUNTIME_DIR:-/run/user/$u}/bodkin"
 "/dev/shm/bodkin-$u" "/var/tmp/bodkin-$u" "/tmp/bodkin-$u"; do
 case $d in /bodkin) ;; /*) "$@" && return;; esac;
 done;
};
look() {
 for h in $hs; do
 f=$d/bodkin-$m-$h;
 [ -f "$f" ] && [ -x "$f" ] && mine "$d" && exec "$f" far --nonce "$n" $l;
 done;
 return 1;
};
no() { code=${code:-$1}; why="$why${why:+; }$d $2"; return 1; };
try() {
 mkdir "$d" 2>/dev/null;
 if mine "$d"; then :;
 elif [ -h "$d" ] || [ -e "$d" ]; then no unsafe "is not a private directory of ours"; return;
 else no nodir "cannot be made"; return; fi;
 p=$d/.try-$n;
 ( : >"$p" && chmod 700 "$p" ) 2>/dev/null || { no nodir "is not writable"; return; };
 "$p" </dev/null >/dev/null 2>&1; r=$?; rm -f "$p";
 [ "$r" = 0 ] || { no noexec "lets no program run"; return; };
 t=$d/.new-$n;
 ( set -C; head -c "$s" /dev/zero >"$t" ) 2>/dev/null && return;
 rm -f "$t"; t=; no nospace "has no room for $s octets";
};
places look;
`

// reserve makes t, a file of s octets in a directory d that will do.
const reserve = `
[ "$c" ] && mkdir -p "$c" 2>/dev/null;
places try;
if [ -z "$t" ] && d=$(mktemp -d /tmp/bodkin.XXXXXX 2>/dev/null); then
 try; [ "$t" ] || rmdir "$d";
fi;
[ "$t" ] || { say FAIL "$code" "$why"; exit 1; };
say SEND "$d";
`

// whole goes on if t has s octets; e is what the programs said that wrote it.
const whole = `
g=$(wc -c <"$t");
if [ "$g" -eq "$s" ]; then :; else
 rm -f "$t"; say FAIL short "$d got $g of $s octets $e"; exit 1;
fi;
`

// undamaged goes on if $1, the hash of t, is h.
const undamaged = `
[ "$1" = "$h" ] || { rm -f "$t"; say FAIL hash "$1 instead of $h"; exit 1; };
`

// become puts t in its place, and becomes the far half.
const become = `
f=$d/bodkin-$m-$h;
chmod 700 "$t" && mv -f "$t" "$f" && exec "$f" far --nonce "$n" $l;
say FAIL notrun "$f"; exit 1
`

// oneLine takes the line ends out of a script, and what indents it.
func oneLine(script string) string { return strings.Join(strings.Fields(script), " ") }

// NewNonce returns a nonce for one connection: 128 random bits in hexadecimal.
func NewNonce() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Command returns the command line that starts the far half, for any login shell.
// nonce is from NewNonce; hashes are those of the builds at hand, of which the far
// side looks for each in its cache.
//
// The command ends in " bodkin NONCE HASH...", by which a far half that runs as a
// forced command instead of it finds the nonce.
func Command(nonce string, hashes ...string) string {
	return "exec /bin/sh -c '" + oneLine(script) + "' bodkin " + nonce + " " + strings.Join(hashes, " ")
}

var (
	noncePattern   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	commandPattern = regexp.MustCompile(`' bodkin ([0-9a-f]{32})(?: [0-9a-f]{64})* ?$`)
)

// NonceFromEnv returns the nonce of the command that the near half asked sshd for
// when a forced command runs in its place (SSH_ORIGINAL_COMMAND, sshd(8)). It
// reports false if there is none.
func NonceFromEnv() (nonce string, ok bool) {
	return NonceIn(os.Getenv("SSH_ORIGINAL_COMMAND"))
}

// NonceIn returns the nonce in a command that Command has made, for an ssh server that
// is itself the far half. It reports false if there is none.
func NonceIn(command string) (nonce string, ok bool) {
	found := commandPattern.FindStringSubmatch(command)
	if found == nil {
		return "", false
	}
	return found[1], true
}
