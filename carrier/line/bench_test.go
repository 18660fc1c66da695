package line

import "testing"

// The octets that telnet without BINARY and terminals take for their own.
var telnets = between(0, 0, lf, lf, cr, cr, xon, xon, xoff, xoff, 0x1d, 0x1d, iac, iac)

func BenchmarkEncode(b *testing.B) {
	for _, c := range codings() {
		b.Run(c.name, func(b *testing.B) {
			src, dst := random(1, 48<<10), make([]byte, 128<<10)
			e := c.encoder()
			b.SetBytes(int64(len(src)))
			b.ReportAllocs()
			for b.Loop() {
				e.encode(dst, src)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, c := range codings() {
		b.Run(c.name, func(b *testing.B) {
			plain, src := random(1, 48<<10), make([]byte, 128<<10)
			e, d := c.encoder(), c.decoder()
			n, _ := e.encode(src, plain)
			dst := make([]byte, len(plain))
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if n, _, ok := d.decode(dst, src[:n]); n != len(dst) || !ok {
					b.Fatal(n, ok)
				}
			}
		})
	}
}
