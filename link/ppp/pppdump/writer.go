package pppdump

import (
	"encoding/binary"
	"io"
	"sync"
	"time"
)

// A Writer records a line. All its methods may be called at the same time.
//
// A recording must not disturb what it records: when a write has failed, the
// Writer is silent from then on, and Err says why.
type Writer struct {
	now func() time.Time // time.Now, but in tests

	mu     sync.Mutex
	w      io.Writer
	start  time.Time // what tenths counts from
	tenths int64     // how far the recording's clock has got
	record []byte    // room for one record, and the time before it
	err    error
}

// NewWriter returns a Writer that records to w what happens on a line since
// start, and writes the start. Each record is one Write. Any w will do that can be
// appended to: an empty file, or the end of another recording.
func NewWriter(w io.Writer, start time.Time) *Writer {
	return newWriter(w, start, time.Now)
}

func newWriter(w io.Writer, start time.Time, now func() time.Time) *Writer {
	d := &Writer{now: now, w: w}
	// The format begins at a whole second. Both times keep their monotonic
	// reading, so that a clock that is set leaves no mark.
	d.start = start.Add(-time.Duration(start.Nanosecond()))
	d.record = binary.BigEndian.AppendUint32([]byte{codeStart}, uint32(start.Unix()))
	d.flush()
	return d
}

// Sent records that b went out. It keeps no reference to b.
func (d *Writer) Sent(b []byte) { d.octets(codeSent, b) }

// Received records that b came in. It keeps no reference to b.
func (d *Writer) Received(b []byte) { d.octets(codeReceived, b) }

// SentEnd records that nothing goes out any more.
func (d *Writer) SentEnd() { d.mark(codeSentEnd) }

// ReceivedEnd records that nothing comes in any more.
func (d *Writer) ReceivedEnd() { d.mark(codeReceivedEnd) }

// Err returns what the first failed write failed with.
func (d *Writer) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

func (d *Writer) octets(code byte, b []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(b) > 0 && d.err == nil {
		n := min(len(b), longest)
		d.time()
		d.record = append(d.record, code, byte(n>>8), byte(n))
		d.record = append(d.record, b[:n]...)
		d.flush()
		b = b[n:]
	}
}

func (d *Writer) mark(code byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.time()
		d.record = append(d.record, code)
		d.flush()
	}
}

// time begins a record with the tenths that passed since the one before.
func (d *Writer) time() {
	now := int64(d.now().Sub(d.start) / (time.Second / 10))
	for now > d.tenths {
		passed := min(now-d.tenths, 1<<31-1) // pppdump(8) reads it with a sign
		if passed < 1<<8 {
			d.record = append(d.record, codeTenths, byte(passed))
		} else {
			d.record = append(d.record, codeTenthsLong)
			d.record = binary.BigEndian.AppendUint32(d.record, uint32(passed))
		}
		d.tenths += passed
	}
}

// flush writes out the record that was put together.
func (d *Writer) flush() {
	_, d.err = d.w.Write(d.record)
	d.record = d.record[:0]
}
