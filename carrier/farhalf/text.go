package farhalf

import (
	"encoding/base64"
	"strings"
	"time"
)

const (
	// lineOctets is how many octets a line of text holds: 54, which base64 makes 72,
	// and ": " 74. Mail's limit of 76 is what every way and every base64 takes.
	lineOctets = 54

	// smallestBlock is what is sent at first, in lines: 1 KiB, which a line of 300
	// bit/s carries in half a minute.
	smallestBlock = 13

	// largestBlock bounds a block, in lines: 1 MiB, far more than is on its way at
	// once on any line that needs this.
	largestBlock = 14 << 10

	// Blocks become larger while they take less than shortTime, to be more than
	// waiting for their answers, and smaller when they take more than longTime, for the
	// sake of Progress.
	shortTime = time.Second
	longTime  = 4 * time.Second
)

// uploadText answers NEED with the build, as text, and returns the message READY.
func (st *starting) uploadText(need message) (message, error) {
	header, payload, err := st.prepare(need)
	if err != nil {
		return message{}, err
	}
	m, err := st.exchange(": "+header+" ."+st.LineEnd, "SEND")
	if err != nil {
		return message{}, err
	}
	st.result = Result{Uploaded: true, Octets: int64(len(payload)), Directory: m.args[0]}
	lines := smallestBlock
	for done := 0; done < len(payload); {
		n := min(lines*lineOctets, len(payload)-done)
		began := time.Now()
		if _, err := st.exchange(textBlock(payload[done:done+n], st.LineEnd), "GOT"); err != nil {
			return message{}, err
		}
		switch took := time.Since(began); {
		case took < shortTime:
			lines = min(2*lines, largestBlock)
		case took > longTime:
			lines = max(lines/2, smallestBlock)
		}
		done += n
		if st.Progress != nil {
			st.Progress(int64(done), int64(len(payload)))
		}
	}
	return st.exchange(": --"+st.LineEnd, "READY")
}

// textBlock returns octets as the lines of one block. Only the last block may have
// other than a multiple of lineOctets, for only the end of base64 is padded. The line
// after its end is for a sed that looks one line ahead, as busybox's does, and is passed
// over where it does not.
func textBlock(octets []byte, end string) string {
	var text strings.Builder
	text.WriteString(": -" + end)
	for len(octets) > 0 {
		n := min(lineOctets, len(octets))
		text.WriteString(": " + base64.StdEncoding.EncodeToString(octets[:n]) + end)
		octets = octets[n:]
	}
	text.WriteString(": ." + end + ":" + end)
	return text.String()
}
