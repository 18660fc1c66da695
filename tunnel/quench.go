package tunnel

import "time"

// A Source is a Port some of whose packets come from connections of its own. One of those
// can be told to send less without losing a packet, as the source quench once did (RFC 792),
// which here nobody else can send.
type Source interface {
	Port

	// Quench says that packet, which came from here, has stood in a queue for so long
	// that its flow should send less. It reports whether it will; if not, the packet may be
	// dropped to say the same. It is called while other calls on the Port are under way,
	// and waits for nothing.
	Quench(packet []byte, stood time.Duration) bool
}

// A Queuer is a Port in which packets wait, and can tell their Source.
type Queuer interface {
	Port

	// SetSource says where the packets written come from. It comes before the first.
	SetSource(Source)
}

// introduce tells dst that its packets come from src, if both care.
func introduce(dst, src Port) {
	q, ok := dst.(Queuer)
	if !ok {
		return
	}
	if s, ok := src.(Source); ok {
		q.SetSource(s)
	}
}
