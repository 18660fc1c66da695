// Package pppdump writes and reads the recordings of a serial line that pppd's
// record option makes and pppdump(8) shows: all octets that went out and came in,
// with the time.
//
// The format has no specification besides those two programs (ppp 2.4.9). A file
// is a sequence of records. A record is one octet that says what it is, and:
//
//	1  sent            length, 2 octets, and so many octets
//	2  received        the same
//	3  no more to send
//	4  no more to receive
//	5  time passed     tenths of a second, 4 octets
//	6  time passed     tenths of a second, 1 octet
//	7  start           seconds since 1970, 4 octets
//
// Numbers are unsigned, high octet first. A start comes first; pppd appends to
// the file that is there, so that more may follow. "Sent" is what the side that
// records has sent.
//
// pppdump -p has room for packets of 8,192 octets and does not look whether they
// fit: recordings of larger ones can be shown without -p only.
package pppdump

// The octets that records begin with.
const (
	codeSent        = 1
	codeReceived    = 2
	codeSentEnd     = 3
	codeReceivedEnd = 4
	codeTenthsLong  = 5
	codeTenths      = 6
	codeStart       = 7
)

// longest is the most octets of the line in one record.
const longest = 1<<16 - 1
