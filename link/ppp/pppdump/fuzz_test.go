package pppdump

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"
)

// FuzzReader: what is read of any file, up to where it stops being a recording,
// can be written and is read again the same.
func FuzzReader(f *testing.F) {
	f.Add([]byte("\x07\x65\x00\x00\x00\x01\x00\x02\x7e\x61\x06\x05\x02\x00\x02\x7e\x62\x05\x00\x00\x8c\xa0\x04\x03"))
	f.Add([]byte("\x07\xff\xff\xff\xff\x06\x09\x01\x00\x00\x07\x00\x00\x00\x00\x03\x02\xff\xff"))
	f.Add([]byte("hello"))
	f.Fuzz(func(t *testing.T, file []byte) {
		records, _ := all(bytes.NewReader(file))
		// pppd writes no records of nothing, and neither do we.
		records = slices.DeleteFunc(records, func(r Record) bool { return r.Data != nil && len(r.Data) == 0 })

		var now time.Time
		var again bytes.Buffer
		var d *Writer
		for _, r := range records {
			now = r.Time
			switch r.Kind {
			case Start:
				d = newWriter(&again, r.Time, func() time.Time { return now })
			case Sent:
				d.Sent(r.Data)
			case Received:
				d.Received(r.Data)
			case SentEnd:
				d.SentEnd()
			case ReceivedEnd:
				d.ReceivedEnd()
			}
		}
		got, err := all(&again)
		if err != nil || !reflect.DeepEqual(got, records) {
			t.Errorf("got %v, %v, want %v", got, err, records)
		}
	})
}
