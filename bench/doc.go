// Command bench measures bodkin beside what else goes through the same hole, and
// beside no hole at all: a cable, a bare ssh login, OpenSSH's own tunnel (ssh -w)
// and sshuttle.
//
// All stand in one lab. Every run measures each contender once, one after the
// other, and what is reported is the median of the runs: load that comes and goes
// hits all alike. Ratios are made within a run, then their median is taken. Trust
// ratios and processor time per octet; speeds are those of the machine.
//
// Then it puts a long cable between the laptop and the rest (lab.Shaper), narrow or
// with losses, and measures on it what is left of the rate, and how long a ping takes
// while a transfer runs. Transfers are by cubic there, and so are carriers that do not
// choose for themselves.
//
//	go run ./bench                    needs root, iperf3, curl, ping, ip; sshuttle and nft if it is to take part
//	go run ./bench -runs 7 -seconds 5 -only 'raw,pipe,ssh' -json FILE
//	go run ./bench -wan -links 20-1,100-1 -only ssh,tls,sshw
package main
