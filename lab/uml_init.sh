#!/bin/sh
# pppd-init: process 1 of the guest that pppd boots. Its root is the machine's, read
# only; /mnt is the directory that it shares with the machine. Each program that it
# starts costs some 20 ms.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin

mkdir /dev/pts /dev/shm 2>/dev/null
# run is the kernel's argument, left in the environment.
mount -a -T "$run/fstab" # shellcheck disable=SC2154
cd /mnt || exit
exec 2>init
while read -r module; do
	busybox insmod "$module"
done <modules
ip -batch network
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding

stty raw -echo </dev/ttyS1
. ./words
# pppd leads no session, else the line would be its controlling terminal, and the
# signal of a hangup would race with what pppd has to say about its end.
case " $* " in
*" notty "*)
	stty raw -echo </dev/ttyS0
	/usr/local/lib/lab/pppd "$@" </dev/ttyS0 >/dev/ttyS0 2>errors &
	;;
*)
	/usr/local/lib/lab/pppd /dev/ttyS0 115200 "$@" </dev/null >/dev/null 2>errors &
	;;
esac
pppd=$!
while read -r verb what; do
	case $verb in
	signal) kill -"$what" $pppd ;;
	run) (
		sh "./$what.sh" >"$what.out" 2>"$what.err" </dev/null
		echo "ran $what $?" >/dev/ttyS1
	) & ;;
	esac
done </dev/ttyS1 &
wait $pppd
echo $? >status
busybox poweroff -f
