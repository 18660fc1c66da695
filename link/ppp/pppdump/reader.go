package pppdump

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// A Kind says what a Record is of.
type Kind int

// The kinds of records.
const (
	Start       Kind = iota + 1 // a recording begins; what was before has nothing to do with it
	Sent                        // Data went out
	Received                    // Data came in
	SentEnd                     // nothing goes out any more
	ReceivedEnd                 // nothing comes in any more
)

var kindNames = [...]string{
	Start:       "start",
	Sent:        "sent",
	Received:    "received",
	SentEnd:     "end of sending",
	ReceivedEnd: "end of receiving",
}

func (k Kind) String() string {
	if k < Start || int(k) >= len(kindNames) {
		return fmt.Sprintf("kind %d", int(k))
	}
	return kindNames[k]
}

// A Record is one thing that happened on the line.
type Record struct {
	Kind Kind
	Time time.Time // when, to a tenth of a second, in UTC
	Data []byte    // of Sent and Received: at most 65,535 octets, the caller's to keep
}

// A Reader reads recordings.
type Reader struct {
	r       *bufio.Reader
	at      int64 // how many octets were read
	started bool
	time    time.Time
	err     error
}

// NewReader returns a Reader of r. It reads ahead.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReader(r)} }

// Next returns the next Record, and io.EOF after the last. Any other error says at
// which octet the file stops being a recording, and comes again from then on. It
// wraps io.ErrUnexpectedEOF if the file ends in the middle of a record, as it does
// when the program that wrote it was killed.
func (d *Reader) Next() (Record, error) {
	if d.err != nil {
		return Record{}, d.err
	}
	record, err := d.next()
	d.err = err
	return record, err
}

func (d *Reader) next() (Record, error) {
	for {
		at := d.at
		code, err := d.r.ReadByte()
		if err == io.EOF {
			return Record{}, io.EOF
		}
		if err != nil {
			return Record{}, fmt.Errorf("pppdump: octet %d: %w", at, err)
		}
		d.at++
		if !d.started && code != codeStart {
			return Record{}, fmt.Errorf("pppdump: octet %d: record %d before any start", at, code)
		}

		record := Record{}
		switch code {
		case codeStart:
			var seconds uint32
			seconds, err = d.number(4)
			d.time = time.Unix(int64(seconds), 0).UTC()
			d.started = true
			record.Kind = Start
		case codeTenths, codeTenthsLong:
			octets := 1
			if code == codeTenthsLong {
				octets = 4
			}
			var tenths uint32
			tenths, err = d.number(octets)
			d.time = d.time.Add(time.Duration(tenths) * (time.Second / 10))
			if err == nil && d.time.Unix() >= 1<<32 {
				err = fmt.Errorf("time past what a start can say: %v", d.time)
			}
		case codeSent, codeReceived:
			record.Kind = Sent
			if code == codeReceived {
				record.Kind = Received
			}
			record.Data, err = d.octets()
		case codeSentEnd:
			record.Kind = SentEnd
		case codeReceivedEnd:
			record.Kind = ReceivedEnd
		default:
			err = fmt.Errorf("record %d, which does not exist", code)
		}
		if err != nil {
			return Record{}, fmt.Errorf("pppdump: octet %d: %w", at, err)
		}
		if record.Kind != 0 {
			record.Time = d.time
			return record, nil
		}
	}
}

// number reads an unsigned number of so many octets, at most 4.
func (d *Reader) number(octets int) (uint32, error) {
	var b [4]byte
	err := d.full(b[4-octets:])
	return binary.BigEndian.Uint32(b[:]), err
}

// octets reads a length and what it is the length of.
func (d *Reader) octets() ([]byte, error) {
	n, err := d.number(2)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	return b, d.full(b)
}

// full fills b. Its error is io.ErrUnexpectedEOF at the end of the file.
func (d *Reader) full(b []byte) error {
	n, err := io.ReadFull(d.r, b)
	d.at += int64(n)
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
