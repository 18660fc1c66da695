package line

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/bodkin-net/bodkin/carrier"
)

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// A coding is both ends of one.
type coding struct {
	name    string
	encoder func() encoder
	decoder func() decoder
}

func codings() []coding {
	escape := func(name string, set carrier.ByteSet) coding {
		return coding{name, func() encoder { return newEscaper(set) }, func() decoder { return newUnescaper(set) }}
	}
	return []coding{
		escape("escape nothing", carrier.ByteSet{}),
		escape("escape 8", telnets),
		escape("escape 34", controls),
		{"armour", func() encoder { return new(armourer) }, func() decoder { return new(disarmourer) }},
	}
}

// buffer is a Stream that keeps what is written, and reads it in small pieces.
type buffer struct {
	bytes.Buffer
	piece  int
	writes int
}

func (b *buffer) Write(p []byte) (int, error) { b.writes++; return b.Buffer.Write(p) }
func (b *buffer) Read(p []byte) (int, error)  { return b.Buffer.Read(p[:min(len(p), b.piece)]) }
func (b *buffer) Close() error                { return nil }

func (w Way) over(b *buffer) *coded {
	return code(carrier.Stream{ReadWriteCloser: b}, w, w).ReadWriteCloser.(*coded)
}

// The codings, octet for octet. Each string of a write is one Write.
func TestCodings(t *testing.T) {
	some := between(0, 0, lf, lf, cr, cr, iac, iac)
	tests := []struct {
		name   string
		way    Way
		writes []string
		want   string
	}{
		{"nothing to escape", Way{Coding: Escape, Unsafe: some}, []string{"bodkin"}, "bodkin"},
		{"in order of value", Way{Coding: Escape, Unsafe: some}, []string{"\x00\n\r=\xff"}, "=A=B=C=D=E"},
		{"only the mark", Way{Coding: Escape}, []string{"a=b"}, "a=Ab"},
		{"each Write a line", Way{Coding: Escape, Unsafe: some, MaxLine: 72, ends: true}, []string{"a\n", "b"}, "a=B\nb\n"},
		{"no octets, no line", Way{Coding: Escape, Unsafe: some, MaxLine: 72, ends: true}, []string{""}, ""},
		{"lines of 8", Way{Coding: Escape, Unsafe: some, MaxLine: 8}, []string{"abc", "def\x00hijk"}, "abcdef=A\nhijk"},
		{"whole groups", Way{Coding: Armour}, []string{"bodkin"}, "Ym9ka2lu"},
		{"groups that end", Way{Coding: Armour}, []string{"b", "od", "kin"}, "Yg=b2Q=a2lu"},
		{"the last of the alphabet", Way{Coding: Armour}, []string{"\xff\xff\xfe"}, "___-"},
		{"armour in lines of 8", Way{Coding: Armour, MaxLine: 8}, []string{"bodkin", "bodkin!"}, "Ym9ka2lu\nYm9ka2lu\nIQ="},
		{"armour, each Write a line", Way{Coding: Armour, MaxLine: 72, ends: true}, []string{"b", "bodkin"}, "Yg=\nYm9ka2lu\n"},
	}
	for _, tt := range tests {
		for piece := 1; piece < 9; piece++ {
			b := &buffer{piece: piece}
			c := tt.way.over(b)
			var all []byte
			for _, text := range tt.writes {
				all = append(all, text...)
				if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
					t.Errorf("%s: Write: %d, %v", tt.name, n, err)
				}
			}
			if got := b.String(); got != tt.want {
				t.Errorf("%s: sent %q, want %q", tt.name, got, tt.want)
			}
			got, err := io.ReadAll(c)
			if !bytes.Equal(got, all) || err != nil {
				t.Errorf("%s: read back %q, %v", tt.name, got, err)
			}
		}
	}
}

// What the way puts in is skipped; what no encoder sends is damage, and nothing
// after it is read.
func TestDamage(t *testing.T) {
	some := between(0, 0, lf, lf, cr, cr, iac, iac)
	tests := []struct {
		way  Way
		came string
		want string
		bad  int // octet that cannot be; -1: none; -2: an end in the middle
	}{
		{Way{Coding: Escape, Unsafe: some}, "a\r\nb\x00=\r\nA\xff", "ab\x00", -1},
		{Way{Coding: Escape, Unsafe: some}, "ab=Fcd", "ab", 3},
		{Way{Coding: Escape, Unsafe: some}, "ab==", "ab", 3},
		{Way{Coding: Escape, Unsafe: some}, "ab= ", "ab", 3},
		{Way{Coding: Escape, Unsafe: some}, "ab=", "ab", -2},
		{Way{Coding: Armour}, " Ym9\r\nka2\x00lu\x7f\n", "bodkin", -1},
		{Way{Coding: Armour}, "\xd9\xed9\xeb\xe12lu", "bodkin", -1}, // parity
		{Way{Coding: Armour}, "Ym9k.a2lu", "bod", 4},
		{Way{Coding: Armour}, "Ym9k=", "bod", 4},
		{Way{Coding: Armour}, "Y=", "", 1},
		{Way{Coding: Armour}, "Yh=", "b", 2}, // octets that hold no data are zero
		{Way{Coding: Armour}, "Yg", "b", -2},
	}
	for _, tt := range tests {
		for piece := 1; piece < 9; piece++ {
			b := &buffer{piece: piece}
			b.Buffer.WriteString(tt.came)
			c := tt.way.over(b)
			got, err := io.ReadAll(c)
			if string(got) != tt.want {
				t.Errorf("%q: read %q, want %q", tt.came, got, tt.want)
			}
			var damage *DamageError
			switch {
			case tt.bad == -1 && err == nil:
			case tt.bad == -2 && errors.Is(err, io.ErrUnexpectedEOF):
			case tt.bad >= 0 && errors.As(err, &damage) && damage.At == int64(tt.bad) && damage.Octet == tt.came[tt.bad]:
				if _, again := c.Read(make([]byte, 1)); again != err {
					t.Errorf("%q: then Read says %v", tt.came, again)
				}
			default:
				t.Errorf("%q: %v", tt.came, err)
			}
		}
	}
}

// A large Write is few Writes below, none larger than it may be, and none allocates.
func TestWritesBelow(t *testing.T) {
	big := random(1, 1<<20)
	for _, way := range []Way{
		{Coding: Escape, Unsafe: controls},
		{Coding: Armour},
		{Coding: Armour, MaxLine: 72, ends: true},
	} {
		b := &buffer{piece: writeSize}
		c := way.over(b)
		if err := c.WriteBuffers(net.Buffers{big[:1000], nil, big[1000:1001], big[1001:]}); err != nil {
			t.Fatal(err)
		}
		if most := b.Len()/(writeSize-8) + 1; b.writes > most {
			t.Errorf("%v: %d Writes for %d octets", way, b.writes, b.Len())
		}
		got := make([]byte, len(big))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, big) {
			t.Fatalf("%v: %v", way, err)
		}
		some := big[:1400]
		if n := testing.AllocsPerRun(100, func() {
			c.Write(some)
			io.ReadFull(c, got[:len(some)])
		}); n != 0 {
			t.Errorf("%v: a Write and its Reads allocate %.0f times", way, n)
		}
	}
}

// Whatever the set, the line, and the cuts: what is decoded is what was encoded, and
// nothing that is unsafe is sent.
func FuzzCodings(f *testing.F) {
	f.Add([]byte("bodkin\x00\r\n\xff="), uint64(0x2401), uint64(0), uint64(0), uint64(1)<<63, byte(0), byte(1))
	f.Add(random(7, 300), ^uint64(0)>>32, uint64(0), uint64(0), uint64(0), byte(72), byte(7))
	f.Add([]byte("a"), uint64(0), uint64(0), uint64(0), uint64(0), byte(200), byte(255))
	f.Fuzz(func(t *testing.T, data []byte, s0, s1, s2, s3 uint64, lines, cuts byte) {
		way := Way{Coding: Escape, Unsafe: without(carrier.ByteSet{s0, s1, s2, s3}, own)}
		if lines%2 == 1 {
			way.MaxLine, way.ends = shortLine+int(lines), lines%4 == 1
			way.Unsafe = union(way.Unsafe, between(cr, cr, lf, lf))
		}
		if escaped(way.Unsafe) > mostEscaped {
			way.Coding = Armour
		}
		b := &buffer{piece: 1 + int(cuts)%13}
		c := way.over(b)
		r := rand.New(rand.NewPCG(uint64(cuts), 0))
		for rest := data; len(rest) > 0; {
			n := r.IntN(len(rest) + 1)
			if _, err := c.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		line := 0
		for _, sent := range b.Bytes() {
			if line++; sent == lf && way.MaxLine > 0 {
				line = 0
			} else if way.Unsafe.Has(sent) {
				t.Fatalf("%02x is sent", sent)
			}
			if way.MaxLine > 0 && line > way.MaxLine {
				t.Fatal("a line is too long")
			}
		}
		var got []byte
		for {
			p := make([]byte, 1+r.IntN(9))
			n, err := c.Read(p)
			if got = append(got, p[:n]...); err != nil {
				if err != io.EOF {
					t.Fatal(err)
				}
				break
			}
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("%q came as %q", data, got)
		}
	})
}

// Whatever comes, a decoder takes no octet twice, gives no more than came, and what
// it accepts is what the encoder makes of what it gave.
func FuzzDecoders(f *testing.F) {
	f.Add([]byte("a=Ab"), uint64(1), false)
	f.Add([]byte("Yg=b2Q=a2lu"), uint64(0), true)
	f.Fuzz(func(t *testing.T, came []byte, s uint64, armour bool) {
		way := Way{Coding: Escape, Unsafe: without(carrier.ByteSet{s}, own)}
		if armour || escaped(way.Unsafe) > mostEscaped {
			way.Coding = Armour
		}
		b := &buffer{piece: 5}
		b.Buffer.Write(came)
		got, err := io.ReadAll(way.over(b))
		if len(got) > len(came) {
			t.Fatalf("%d octets from %d", len(got), len(came))
		}
		var damage *DamageError
		if errors.As(err, &damage) && (damage.At >= int64(len(came)) || came[damage.At] != damage.Octet) {
			t.Fatalf("%v in %q", err, came)
		}
		if err != nil || way.Coding == Armour {
			return
		}
		again := &buffer{piece: 5}
		if _, err := way.over(again).Write(got); err != nil {
			t.Fatal(err)
		}
		var kept []byte
		for _, c := range came {
			if !way.Unsafe.Has(c) {
				kept = append(kept, c)
			}
		}
		if !bytes.Equal(again.Bytes(), kept) {
			t.Fatalf("%q is read as %q, which is sent as %q", came, got, again.Bytes())
		}
	})
}
