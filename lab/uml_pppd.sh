#!/bin/sh
# pppd: the real one, in User Mode Linux, for machines whose kernel has no PPP.
#
#	pppd [DEVICE] [option...]
#
# It boots a guest kernel whose files are this machine's, runs pppd there with
# the options given, and exits with pppd's status. The line is the device, else
# standard input and output, whether a tty or not. TERM, INT, HUP, USR1 and USR2
# go to pppd; KILL takes the guest along.
#
# What it shares with the guest is a directory, $LAB_PPPD or one of its own:
#
#	words    pppd's options, as a command of sh that sets them
#	ppp/     the guest's /etc/ppp: this machine's, as far as it may be read,
#	         other scripts and options
#	fstab    the guest's
#	network  the guest's own, for ip -batch
#	modules  what the guest's kernel needs, in order
#	ask      FIFO: "run N", which runs N.sh, or "signal TERM", for pppd
#	tell     FIFO: "up ipv4 ppp0 LOCAL REMOTE", "down ipv4 ...", "ran N STATUS"
#	log      what pppd logs
#	errors   what it says on its standard error
#	status   how it ended
#	console  what the guest's kernel says
set -u
umask 077

run=${LAB_PPPD:-} own=
if [ -z "$run" ]; then
	run=$(mktemp -d /tmp/lab-pppd.XXXXXX) || exit 1
	own=$run
fi
mkdir -p "$run/ppp"

exec 3<&0 4>&1
case ${1:-} in
/dev/*)
	exec 3<>"$1" 4>&3
	shift
	;;
esac

{
	printf 'set --'
	for word; do # in quotes, so that sh makes the same words of them
		printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")"
	done
} >"$run/words"

for file in /etc/ppp/*-secrets /etc/ppp/peers; do
	[ ! -r "$file" ] || [ -e "$run/ppp/${file##*/}" ] || cp -r "$file" "$run/ppp"
done
printf '%s\n' nodetach local nocrtscts debug 'logfile /mnt/log' >"$run/ppp/options"
for network in ip ipv6; do
	for way in up down; do
		script=$run/ppp/$network-$way
		[ $network = ip ] && version=ipv4 || version=ipv6
		printf '#!/bin/sh\necho %s %s "$1" "$4" "$5" >/dev/ttyS1\n' $way $version >"$script"
		chmod 700 "$script"
	done
done

cat >"$run/fstab" <<END
proc /proc proc
sys /sys sysfs
tmpfs /run tmpfs
tmpfs /var/log tmpfs
tmpfs /dev/shm tmpfs
devpts /dev/pts devpts
none /mnt hostfs $run
none /etc/ppp hostfs $run/ppp
END

echo link set lo up >"$run/network"
card=
if [ -e /sys/class/net/lab-pppd ]; then # see Lab.RoutePPPD
	card=vec0:transport=tap,ifname=lab-pppd
	cat >>"$run/network" <<-END
		address add 192.168.9.2/30 dev vec0
		link set vec0 up
		route add default via 192.168.9.1
	END
fi

kernel=$(echo /usr/lib/uml/modules/*)
for name in ipv6 ppp_async ppp_deflate; do # what each needs first, the last one first of all
	sed -n "s|^\\(kernel/.*/$name\\.ko\\): *|\\1 |p" "$kernel/modules.dep" |
		awk -v kernel="$kernel" '{ for (i = NF; i > 0; i--) print kernel "/" $i }'
done | awk '!seen[$0]++' >"$run/modules"

[ -p "$run/ask" ] || mkfifo "$run/ask" "$run/tell" || exit 1
mkfifo "$run/alive" || exit 1
: >"$run/log"
exec 7<>"$run/ask" 8<>"$run/tell" 9<>"$run/alive"

# setsid: the guest's kernel takes a terminal's signals for its own end. setarch:
# what is left free for randomness it takes for memory, which it then has to count.
# The initcalls measure how to compute parity, for half a second.
setsid setarch --addr-no-randomize linux.uml \
	mem=64M quiet rootfstype=hostfs ro "init=/usr/local/lib/lab/pppd-init" "run=$run" \
	"uml_dir=$run" umid=guest con=null con0=null,null ssl=null \
	ssl0=fd:3,fd:4 ssl1=fd:7,fd:8 ${card:+"$card"} \
	initcall_blacklist=raid6_select_algo,calibrate_xor_blocks,register_xor_blocks \
	9<&- </dev/null >"$run/console" 2>&1 &
guest=$!
exec 3<&- 4>&- </dev/null >/dev/null
# Killed, its kernel would leave processes behind. This one sees our end, whatever
# it is, and ends them all.
setsid sh -c 'read -r end; kill -KILL "-$0"; [ -z "$1" ] || rm -rf "$1"' \
	$guest "$own" 7<&- 8<&- 9<&- <"$run/alive" 2>/dev/null &
watcher=$!
for name in TERM INT HUP USR1 USR2; do
	# shellcheck disable=SC2064 # the name of now
	trap "echo signal $name >&7" $name
done
while kill -0 $guest 2>/dev/null; do
	wait $guest
done

if read -r status <"$run/status"; then
	cat "$run/errors" >&2
else
	echo "pppd: the guest ended before pppd did" >&2
	cat "$run/console" >&2
	status=127
fi
exec 9<&-
wait $watcher
exit "$status"
