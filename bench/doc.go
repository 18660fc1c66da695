// Command bench measures bodkin beside what else goes through the same hole, and
// beside no hole at all: a cable, a bare ssh login, OpenSSH's own tunnel (ssh -w)
// and sshuttle.
//
// All stand in one lab. Every run measures each contender once, one after the
// other, and what is reported is the median of the runs: load that comes and goes
// hits all alike. Ratios are made within a run, then their median is taken. Trust
// ratios and processor time per octet; speeds are those of the machine.
//
//	go run ./bench                    needs root, iperf3, curl, ping; sshuttle and nft if it is to take part
//	go run ./bench -runs 7 -seconds 5 -only 'raw,pipe,ssh' -json FILE
package main
