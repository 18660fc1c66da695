package telnet

import "fmt"

// Commands, RFC 854 and 885. All that is not named here is skipped.
const (
	iac  = 255
	dont = 254
	do   = 253
	wont = 252
	will = 251
	sb   = 250 // begins a subnegotiation,
	se   = 240 // and ends it
	brk  = 243
)

// Octets of the network virtual terminal, RFC 854, page 10.
const (
	nul = 0
	cr  = 13
)

// Options that we speak.
const (
	optBinary = 0  // RFC 856
	optEcho   = 1  // RFC 857
	optSGA    = 3  // suppress go ahead, RFC 858
	optTType  = 24 // terminal type, RFC 1091
	optNAWS   = 31 // window size, RFC 1073
)

// The first octet of a subnegotiation of the terminal type, RFC 1091, section 2.
const (
	ttypeIs   = 0
	ttypeSend = 1
)

var verbNames = map[byte]string{will: "WILL", wont: "WONT", do: "DO", dont: "DONT"}

// optionNames holds what servers are known to ask for; we speak five of them.
var optionNames = map[byte]string{
	optBinary: "BINARY", optEcho: "ECHO", optSGA: "SGA", 5: "STATUS", 6: "TIMING-MARK", optTType: "TTYPE",
	optNAWS: "NAWS", 32: "TSPEED", 33: "LFLOW", 34: "LINEMODE", 35: "XDISPLOC", 36: "OLD-ENVIRON",
	37: "AUTHENTICATION", 38: "ENCRYPT", 39: "NEW-ENVIRON",
}

// optionName returns the name of an option, or its number.
func optionName(option byte) string {
	if name, ok := optionNames[option]; ok {
		return name
	}
	return fmt.Sprint("option ", option)
}
