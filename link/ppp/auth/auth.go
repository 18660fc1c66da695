// Package auth holds the three ways by which one end of a PPP link proves to the
// other who it is: PAP (RFC 1334), CHAP with MD5 (RFC 1994) and MS-CHAPv2 (RFC
// 2759). Each is two pure machines, the one that proves and the one that asks:
// packets and timeouts in, packets and a verdict out. Clocks and streams belong
// to the caller.
package auth

// A Protocol is a way to prove who one is.
type Protocol int

// The protocols, the best first.
const (
	MSCHAPv2 Protocol = iota + 1 // RFC 2759, option c223 81
	CHAP                         // RFC 1994 with MD5, option c223 05
	PAP                          // RFC 1334, option c023: the secret crosses in clear
)

// String returns pppd's word for it.
func (p Protocol) String() string {
	switch p {
	case MSCHAPv2:
		return "mschap-v2"
	case CHAP:
		return "chap"
	case PAP:
		return "pap"
	}
	return "unknown"
}
