package pppdump

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/bodkin-net/bodkin/link/ppp/hdlc"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// all reads a whole file.
func all(r io.Reader) (records []Record, err error) {
	for d := NewReader(r); ; {
		record, err := d.Next()
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		records = append(records, record)
	}
}

// at is a time so many tenths of a second after the hour of the tables.
func at(tenths int64) time.Time {
	return time.Unix(0x65000000, tenths*int64(time.Second/10)).UTC()
}

// The format, in octets: what is recorded when, and the file.
func TestFormat(t *testing.T) {
	hour := at(36000).Sub(at(0))
	tests := []struct {
		name   string
		record func(d *Writer, pass func(time.Duration))
		file   string
		want   []Record
	}{
		{"start", func(*Writer, func(time.Duration)) {},
			"07 65000000",
			[]Record{{Start, at(0), nil}}},
		{"both ways", func(d *Writer, _ func(time.Duration)) { d.Sent([]byte("~a")); d.Received([]byte("~b")) },
			"07 65000000 01 0002 7e61 02 0002 7e62",
			[]Record{{Start, at(0), nil}, {Sent, at(0), []byte("~a")}, {Received, at(0), []byte("~b")}}},
		{"ends", func(d *Writer, _ func(time.Duration)) { d.ReceivedEnd(); d.SentEnd() },
			"07 65000000 04 03",
			[]Record{{Start, at(0), nil}, {ReceivedEnd, at(0), nil}, {SentEnd, at(0), nil}}},
		{"25.5 s", func(d *Writer, pass func(time.Duration)) { pass(25500 * time.Millisecond); d.SentEnd() },
			"07 65000000 06ff 03",
			[]Record{{Start, at(0), nil}, {SentEnd, at(255), nil}}},
		{"an hour", func(d *Writer, pass func(time.Duration)) { pass(hour); d.SentEnd() },
			"07 65000000 05 00008ca0 03",
			[]Record{{Start, at(0), nil}, {SentEnd, at(36000), nil}}},
		{"tenths do not get lost", func(d *Writer, pass func(time.Duration)) {
			for range 4 {
				pass(50 * time.Millisecond)
				d.SentEnd()
			}
		},
			"07 65000000 03 0601 03 03 0601 03",
			[]Record{{Start, at(0), nil}, {SentEnd, at(0), nil}, {SentEnd, at(1), nil}, {SentEnd, at(1), nil}, {SentEnd, at(2), nil}}},
		{"a clock set back", func(d *Writer, pass func(time.Duration)) {
			pass(time.Second)
			d.SentEnd()
			pass(-time.Hour)
			d.SentEnd()
		},
			"07 65000000 060a 03 03",
			[]Record{{Start, at(0), nil}, {SentEnd, at(10), nil}, {SentEnd, at(10), nil}}},
		{"nothing", func(d *Writer, _ func(time.Duration)) { d.Sent(nil) },
			"07 65000000",
			[]Record{{Start, at(0), nil}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var file bytes.Buffer
			now := at(0)
			tt.record(newWriter(&file, now, func() time.Time { return now }), func(d time.Duration) { now = now.Add(d) })
			if !bytes.Equal(file.Bytes(), unhex(t, tt.file)) {
				t.Errorf("wrote % x, want % x", file.Bytes(), unhex(t, tt.file))
			}
			got, err := all(&file)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("read %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// A recording begins at a whole second; a fraction is made up for by the first
// time. The clock of the machine may be set meanwhile.
func TestStartInTheMiddleOfASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file bytes.Buffer
		time.Sleep(700 * time.Millisecond)
		begin := time.Now()
		d := NewWriter(&file, begin)
		time.Sleep(time.Second)
		d.Sent([]byte{1})
		got, err := all(&file)
		if err != nil || len(got) != 2 {
			t.Fatal(got, err)
		}
		if !got[0].Time.Equal(begin.Truncate(time.Second)) {
			t.Errorf("start %v, want %v", got[0].Time, begin.Truncate(time.Second))
		}
		if !got[1].Time.Equal(begin.Add(time.Second)) {
			t.Errorf("sent at %v, want %v", got[1].Time, begin.Add(time.Second))
		}
	})
}

func TestManyOctets(t *testing.T) {
	var file bytes.Buffer
	octets := bytes.Repeat([]byte("0123456789"), 20_000)
	NewWriter(&file, at(0)).Received(octets)
	records, err := all(&file)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	for _, r := range records[1:] {
		if r.Kind != Received {
			t.Fatalf("%v record", r.Kind)
		}
		got = append(got, r.Data...)
	}
	if !bytes.Equal(got, octets) {
		t.Errorf("%d octets in %d records, not the same", len(got), len(records)-1)
	}
}

func TestTwoRecordingsInOneFile(t *testing.T) {
	var file bytes.Buffer
	clock := func() time.Time { return at(20) }
	newWriter(&file, at(0), clock).SentEnd()
	newWriter(&file, at(10), clock).SentEnd()
	got, err := all(&file)
	want := []Record{{Start, at(0), nil}, {SentEnd, at(20), nil}, {Start, at(10), nil}, {SentEnd, at(20), nil}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestManyAtOnce(t *testing.T) {
	var file bytes.Buffer
	d := NewWriter(&file, at(0))
	var group sync.WaitGroup
	for n := range byte(8) {
		group.Go(func() {
			for range 100 {
				d.Sent(bytes.Repeat([]byte{n}, int(n)+1))
				d.Received([]byte{n})
			}
		})
	}
	group.Wait()
	records, err := all(&file)
	if err != nil || len(records) != 1+8*200 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for _, r := range records[1:] {
		if want := bytes.Repeat(r.Data[:1], len(r.Data)); !bytes.Equal(r.Data, want) {
			t.Fatalf("two records mixed: % x", r.Data)
		}
	}
}

// A fullDisk takes so many writes.
type fullDisk struct{ left, writes int }

var errFull = errors.New("no space left on device")

func (d *fullDisk) Write(b []byte) (int, error) {
	d.writes++
	if d.left--; d.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestSilentAfterAnError(t *testing.T) {
	disk := &fullDisk{left: 2}
	d := NewWriter(disk, at(0))
	d.Sent([]byte("one"))
	if err := d.Err(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		d.Sent([]byte("more"))
		d.Received(make([]byte, 200_000))
		d.SentEnd()
	}
	if err := d.Err(); !errors.Is(err, errFull) {
		t.Errorf("Err is %v, want %v", err, errFull)
	}
	if disk.writes != 3 {
		t.Errorf("%d writes, want 3: the start, one record, and the one that failed", disk.writes)
	}
}

// What is no recording, and how far it is one.
func TestReaderRefuses(t *testing.T) {
	tests := []struct {
		name, file string
		records    int
		err        string
	}{
		{"text", "68656c6c6f", 0, "octet 0: record 104 before any start"},
		{"no start", "01 0001 7e", 0, "octet 0: record 1 before any start"},
		{"half a start", "07 6500", 0, "octet 0: unexpected EOF"},
		{"unknown record", "07 65000000 03 08", 2, "octet 6: record 8, which does not exist"},
		{"no length", "07 65000000 01", 1, "octet 5: unexpected EOF"},
		{"half a length", "07 65000000 02 00", 1, "octet 5: unexpected EOF"},
		{"octets missing", "07 65000000 0601 02 0003 7e7e", 1, "octet 7: unexpected EOF"},
		{"no octets", "07 65000000 02 0003", 1, "octet 5: unexpected EOF"},
		{"no time", "07 65000000 06", 1, "octet 5: unexpected EOF"},
		{"half a time", "07 65000000 05 0000", 1, "octet 5: unexpected EOF"},
		{"beyond time", "07 ffffffff 060a 03", 1, "octet 5: time past what a start can say: 2106-02-07 06:28:16 +0000 UTC"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			records, err := all(bytes.NewReader(unhex(t, tt.file)))
			if err == nil || err.Error() != "pppdump: "+tt.err || len(records) != tt.records {
				t.Errorf("%d records, %v, want %d, pppdump: %s", len(records), err, tt.records, tt.err)
			}
			if strings.HasSuffix(tt.err, "EOF") != errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v wraps io.ErrUnexpectedEOF: %v", err, !strings.HasSuffix(tt.err, "EOF"))
			}
		})
	}
	d := NewReader(strings.NewReader("hello"))
	_, first := d.Next()
	if _, again := d.Next(); again != first {
		t.Errorf("Next again: %v, want %v", again, first)
	}
}

// pppdump(8) itself reads what we write: octets, times, and whole frames.
func TestRealPPPDump(t *testing.T) {
	var file bytes.Buffer
	now := at(0)
	d := newWriter(&file, now, func() time.Time { return now })

	line := hdlc.Format{Escape: hdlc.NewSet(hdlc.DefaultACCM, [4]uint64{})}
	frame := line.Append([]byte{hdlc.Flag}, 0xc021, unhex(t, "01 01 000e 0206 00000000 0506 5f1c9d2a"))
	d.Sent(frame[:10])
	now = now.Add(500 * time.Millisecond)
	d.Sent(frame[10:])
	now = now.Add(30 * time.Second)
	d.Received(new(hdlc.Format).Append([]byte{hdlc.Flag}, 0x0021, unhex(t, "45 7e 7d 00")))
	d.ReceivedEnd()
	d.SentEnd()

	packets := `start Tue Sep 12 06:06:56 2023
time  0.5s
sent  ff 03 c0 21 01 01 00 0e 02 06 00 00 00 00 05 06  ...!............
      5f 1c 9d 2a                                      _..*
time  30.0s
rcvd  ff 03 00 21 45 7e 7d 00                          ...!E~}.
end recv
end send
`
	if got := realPPPDump(t, file.Bytes(), "-p"); got != packets {
		t.Errorf("pppdump -p:\n%s\nwant:\n%s", got, packets)
	}
	got := realPPPDump(t, file.Bytes(), "-a")
	for _, want := range []string{"time  06:06:56.5  (sent 10, rcvd 0)", `sent "~\ff}#\c0!}!}!"`, "time  06:07:26.5"} {
		if !strings.Contains(got, want) {
			t.Errorf("pppdump -a:\n%s\nlacks %s", got, want)
		}
	}
}

// realPPPDump is what the program prints of a file.
func realPPPDump(t *testing.T, file []byte, option string) string {
	t.Helper()
	program, err := exec.LookPath("pppdump")
	if err != nil {
		program = "/usr/sbin/pppdump" // not in everybody's PATH
	}
	name := filepath.Join(t.TempDir(), "record")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, option, name)
	cmd.Env = []string{"TZ=UTC", "LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v (it comes with Debian's ppp)\n%s", cmd, err, out)
	}
	return string(out)
}
