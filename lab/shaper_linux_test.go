package lab

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A bare is a Shaper between two networks with nothing in them but a test's frames.
type bare struct {
	*Shaper
	ends [2]*packetRing
}

func newBare(t *testing.T) *bare {
	t.Helper()
	var b bare
	var ends [2]end
	for i, name := range []string{"one", "other"} {
		m, err := newNetwork(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.close)
		ends[i] = end{machine: m, device: "eth0"}
	}
	s, err := shapedCable(t.Context(), ends[0], ends[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	b.Shaper = s
	for i, e := range ends {
		link, err := e.machine.netlink.LinkByName(e.device)
		if err != nil {
			t.Fatal(err)
		}
		err = e.machine.Do(func() (err error) {
			b.ends[i], err = openRing(link.Attrs().Index)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.ends[i].close)
	}
	return &b
}

// An arrival is a test frame that came, by the kernel's clock at its coming.
type arrival struct {
	number     int
	sent, came time.Duration
	size       int
}

func (a arrival) took() time.Duration { return a.came - a.sent }

// exchange sends n frames of a size from one end, each some time after the one before,
// and returns those that come to the other until all are there or none has come for a
// while.
func (b *bare) exchange(t *testing.T, from, n, size int, gap time.Duration) []arrival {
	t.Helper()
	const quiet = 300 * time.Millisecond
	got := make(chan []arrival)
	to := b.ends[1-from]
	go func() {
		var list []arrival
		for len(list) < n {
			fds := []unix.PollFd{{Fd: int32(to.fd), Events: unix.POLLIN}}
			if ready, err := unix.Poll(fds, int(quiet.Milliseconds())); ready == 0 && err == nil {
				break
			}
			for {
				f, ok := to.receive()
				if !ok {
					break
				}
				if len(f.octets) >= 30 && f.octets[0] == 0x02 {
					list = append(list, arrival{
						number: int(binary.BigEndian.Uint64(f.octets[14:])),
						sent:   time.Duration(binary.BigEndian.Uint64(f.octets[22:])),
						came:   time.Duration(f.came), size: len(f.octets),
					})
				}
				to.release()
			}
		}
		got <- list
	}()
	frame := make([]byte, size)
	frame[0], frame[6] = 0x02, 0x02 // locally administered addresses
	binary.BigEndian.PutUint16(frame[12:], unix.ETH_P_IP)
	next := time.Now()
	for i := range n {
		for gap > 0 && time.Until(next) > 0 { // more exactly than a sleep
			unix.Nanosleep(&unix.Timespec{Nsec: max(1, int64(min(time.Until(next), time.Second/2)))}, nil)
		}
		next = next.Add(gap)
		binary.BigEndian.PutUint64(frame[14:], uint64(i))
		binary.BigEndian.PutUint64(frame[22:], uint64(time.Now().UnixNano()))
		if err := b.ends[from].send(frame); err != nil {
			t.Error(err)
			break
		}
	}
	return <-got
}

func percentile(list []time.Duration, p float64) time.Duration {
	list = slices.Sorted(slices.Values(list))
	return list[min(len(list)-1, int(p*float64(len(list))))]
}

// report says how well the machine did, for those who wonder about a failure.
func (b *bare) report(t *testing.T) {
	t.Helper()
	up, down := b.Stats()
	t.Logf("up %+v, down %+v", up, down)
}

const fullFrame = 1514

// measured tries a measurement again when other work of the machine disturbed it: what
// is wrong with a Shaper is wrong each time.
func (b *bare) measured(t *testing.T, measure func() error) {
	t.Helper()
	var err error
	for range 3 {
		if err = measure(); err == nil {
			return
		}
		t.Log(err)
	}
	b.report(t)
	t.Error(err)
}

// exactness is how far from its time a frame may come (p95).
const exactness = 500 * time.Microsecond

// TestShaperRate: a full link gives what was asked for, to a hundredth, and each frame
// at its time, in order.
func TestShaperRate(t *testing.T) {
	b := newBare(t)
	for _, rate := range []int64{20e6, 100e6} {
		n := int(rate / 8 / fullFrame / 2) // half a second
		b.Set(Way{Rate: rate, Delay: 25 * time.Millisecond}, Way{})
		each := time.Duration(fullFrame * 8 * int64(time.Second) / rate)
		b.measured(t, func() error {
			got := b.exchange(t, 0, n, fullFrame, 0)
			if len(got) != n {
				return fmt.Errorf("%d bit/s: %d of %d frames came", rate, len(got), n)
			}
			var starts []time.Duration // of the transfer, by each frame's account
			for i, a := range got {
				if a.number != i {
					return fmt.Errorf("%d bit/s: frame %d came as number %d", rate, a.number, i)
				}
				starts = append(starts, a.came-time.Duration(i)*each)
			}
			took := got[n-1].came - got[0].came
			is := float64(n-1) * fullFrame * 8 / took.Seconds()
			start := percentile(starts, .5)
			for i := range starts {
				starts[i] = (starts[i] - start).Abs()
			}
			off := percentile(starts, .95)
			t.Logf("%.0f bit/s of %d; frames come %v off their time (p95)", is, rate, off)
			if math.Abs(is/float64(rate)-1) > .01 || off > exactness {
				return fmt.Errorf("%.0f bit/s instead of %d, frames come %v off their time", is, rate, off)
			}
			return nil
		})
	}
}

// TestShaperDelay: a frame alone takes its delay, and the time of its sending.
func TestShaperDelay(t *testing.T) {
	b := newBare(t)
	for _, w := range []Way{
		{Delay: 25 * time.Millisecond},
		{Delay: 100 * time.Microsecond},
		{Delay: 25 * time.Millisecond, Rate: 20e6},
	} {
		b.Set(Way{}, w)
		want := w.Delay
		if w.Rate > 0 {
			want += time.Duration(fullFrame * 8 * int64(time.Second) / w.Rate)
		}
		b.measured(t, func() error {
			var off []time.Duration
			for _, a := range b.exchange(t, 1, 200, fullFrame, 2*time.Millisecond) {
				off = append(off, a.took()-want)
			}
			if len(off) != 200 {
				return fmt.Errorf("%+v: %d of 200 frames came", w, len(off))
			}
			low, high := percentile(off, .05), percentile(off, .95)
			t.Logf("%+v: off by %v (p5), %v (median), %v (p95)", w, low, percentile(off, .5), high)
			if low < -exactness || high > exactness {
				return fmt.Errorf("%+v: off by %v to %v", w, low, high)
			}
			return nil
		})
	}
}

// TestShaperBuffer: as many frames of a burst pass as find room, and not one more.
func TestShaperBuffer(t *testing.T) {
	b := newBare(t)
	const fit = 40
	b.Set(Way{Rate: 2e6, Buffer: fit*fullFrame + fullFrame/2, Delay: time.Millisecond}, Way{})
	got := b.exchange(t, 0, 100, fullFrame, 0) // a frame's time is 6 ms, more than all of the burst takes
	if len(got) != fit {
		t.Errorf("%d frames of a burst fit, want %d", len(got), fit)
	}
	if up, _ := b.Stats(); up.Dropped != 100-int64(len(got)) || up.Frames != int64(len(got)) || up.Octets != int64(len(got))*fullFrame {
		t.Errorf("stats: %+v", up)
	}
}

// TestShaperLoss: the same frames are lost with the same seed.
func TestShaperLoss(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	numbers := func(seed uint64) (list []int) {
		b.Set(Way{Loss: .05, Seed: seed, Delay: time.Millisecond}, Way{})
		for _, a := range b.exchange(t, 0, 3000, 100, 20*time.Microsecond) {
			list = append(list, a.number)
		}
		return list
	}
	one := numbers(7)
	if n := 3000 - len(one); n < 100 || n > 200 { // 150, and 4 standard deviations
		t.Errorf("%d of 3000 frames are lost, not about 5 %%", n)
	}
	if again := numbers(7); !slices.Equal(one, again) {
		t.Errorf("another run lost other frames: %d came, then %d", len(one), len(again))
	}
	if other := numbers(8); slices.Equal(one, other) {
		t.Error("another seed lost the same frames")
	}
	b.report(t)
}

// TestShaperJitter: delays are spread evenly, and order is kept unless it is not to be.
func TestShaperJitter(t *testing.T) {
	b := newBare(t)
	for _, reorder := range []bool{true, false} {
		w := Way{Delay: 5 * time.Millisecond, Jitter: 10 * time.Millisecond, Reorder: reorder, Seed: 5}
		b.Set(w, Way{})
		got := b.exchange(t, 0, 500, 100, time.Millisecond)
		if len(got) != 500 {
			t.Fatalf("%d of 500 frames came", len(got))
		}
		var took []time.Duration
		ordered := true
		for i, a := range got {
			took = append(took, a.took())
			ordered = ordered && a.number == i
		}
		if ordered == reorder {
			t.Errorf("reorder is %v, and that the frames came in order is %v", reorder, ordered)
		}
		if !reorder {
			continue
		}
		for _, p := range []float64{.1, .5, .9} {
			want := w.Delay + time.Duration(p*float64(w.Jitter))
			// Three standard deviations of a quantile of 500, and the Shaper's own.
			tolerance := time.Duration(3*math.Sqrt(p*(1-p)/500)*float64(w.Jitter)) + 500*time.Microsecond
			if is := percentile(took, p); (is - want).Abs() > tolerance {
				t.Errorf("%.0f %% of the frames take at most %v, want %v ± %v", 100*p, is, want, tolerance)
			}
		}
	}
}

// TestShaperCut: nothing of what is on the way or comes gets through, and later all
// does again.
func TestShaperCut(t *testing.T) {
	t.Parallel()
	b := newBare(t)
	way := Way{Delay: 100 * time.Millisecond, Rate: 20e6}
	b.Set(way, way)
	time.AfterFunc(50*time.Millisecond, b.Cut)
	if got := b.exchange(t, 0, 100, fullFrame, time.Millisecond); len(got) != 0 {
		t.Errorf("%d frames came through a cable that was cut", len(got))
	}
	if up, _ := b.Stats(); up.Cut != 100 {
		t.Errorf("stats: %+v", up)
	}
	b.Restore()
	for from := range 2 {
		if got := b.exchange(t, from, 10, fullFrame, time.Millisecond); len(got) != 10 {
			t.Errorf("%d of 10 frames came after the cable was whole again", len(got))
		}
	}
}

// shaperCPU is the processor time of the Shaper's thread, the only one of this process
// with a real-time priority.
func shaperCPU(t *testing.T) time.Duration {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		id, err := strconv.Atoi(task.Name())
		if err != nil {
			continue
		}
		policy, _, errno := unix.Syscall(unix.SYS_SCHED_GETSCHEDULER, uintptr(id), 0, 0)
		if errno != 0 || policy != unix.SCHED_FIFO {
			continue
		}
		var spent unix.Timespec
		// A thread's clock as the kernel names it (clock_getcpuclockid(3)).
		if err := unix.ClockGettime(int32(^id<<3|6), &spent); err != nil {
			t.Fatal(err)
		}
		return time.Duration(spent.Nano())
	}
	t.Fatal("no thread has a real-time priority")
	return 0
}

// maxCost is what a frame may cost of a processor, most of it the kernel's for taking
// it at the other end. Measured: 12 to 14 µs.
const maxCost = 40 * time.Microsecond

// TestShaperCost: 100 Mbit/s of full frames each way leave the machine to others.
func TestShaperCost(t *testing.T) {
	b := newBare(t)
	way := Way{Rate: 100e6, Delay: 25 * time.Millisecond}
	b.Set(way, way)
	const n = 8000 // a second's
	before, began := shaperCPU(t), time.Now()
	other := make(chan []arrival)
	go func() { other <- b.exchange(t, 1, n, fullFrame, 122*time.Microsecond) }()
	up, down := b.exchange(t, 0, n, fullFrame, 122*time.Microsecond), <-other
	spent, took := shaperCPU(t)-before, time.Since(began)
	if len(up) != n || len(down) != n {
		t.Errorf("%d and %d of %d frames came", len(up), len(down), n)
	}
	if each := spent / (2 * n); each > maxCost {
		t.Errorf("a frame costs %v", each)
	}
	share := spent.Seconds() / took.Seconds()
	t.Logf("%.1f %% of a processor, %.1f µs a frame", 100*share, spent.Seconds()*1e6/(2*n))
	b.report(t)
}

// TestShaperClose: it does not wait for what is on its way, and keeps no descriptors.
func TestShaperClose(t *testing.T) {
	t.Parallel()
	fds := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	b := newBare(t)
	b.Set(Way{Delay: time.Hour}, Way{})
	if got := b.exchange(t, 0, 10, fullFrame, 0); len(got) != 0 {
		t.Errorf("%d frames came before their time", len(got))
	}
	before := fds()
	b.Close()
	b.Close()
	if after := fds(); after >= before {
		t.Errorf("%d descriptors before Close, %d after", before, after)
	}
}

// TestShaped: what ping and iperf3 say of a lab's cables, and what the tunnel's carrier
// gets: a connection through the firewall.
func TestShaped(t *testing.T) {
	l, err := New(t.Context(), Options{Direct: true, Shaped: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	way := Way{Rate: 20e6, Delay: 25 * time.Millisecond, Buffer: 125_000}
	for _, wire := range []*Shaper{l.Wire, l.DirectWire} {
		wire.Set(way, way)
	}

	out, err := l.Laptop.Command(t.Context(), "ping", "-c", "20", "-i", "0.02", DirectInternet4.String()).Output()
	if err != nil {
		t.Fatalf("ping: %v: %s", err, out)
	}
	// A ping of 98 octets is 39 µs under way, twice.
	median := percentile(pingTimes(t, string(out)), .5)
	if off := median - 50080*time.Microsecond; off.Abs() > time.Millisecond {
		t.Errorf("ping takes %v, want 50.08 ms", median)
	}

	for i, start := 0, time.Now(); i < 3; i++ {
		c, err := l.Laptop.Dial(t.Context(), "tcp", net.JoinHostPort(Gateway4.String(), "22"))
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		took := time.Since(start) // the first time with ARP, which is part of the cable
		if i > 0 && (took < 49*time.Millisecond || took > 60*time.Millisecond) {
			t.Errorf("to connect through the firewall takes %v, want 50 ms", took)
		}
		start = time.Now()
	}

	server := l.Internet.Command(t.Context(), "iperf3", "-s", "-1", "-B", DirectInternet4.String())
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer server.Wait()
	defer server.Process.Kill()
	client := l.Laptop.Command(t.Context(), "sh", "-c", "until iperf3 -J -R -C cubic -t 2 -O 1 -c "+DirectInternet4.String()+"; do sleep .1; done | grep -v error")
	out, err = client.Output()
	if err != nil {
		t.Fatalf("iperf3: %v: %s", err, out)
	}
	var result struct {
		End struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		t.Fatalf("iperf3: %v: %s", err, out)
	}
	const payload = 1448. / fullFrame // of a frame
	got := result.End.Received.BitsPerSecond
	t.Logf("ping %v; iperf3 %.2f Mbit/s", median, got/1e6)
	if full := float64(way.Rate) * payload; got < .95*full || got > 1.01*full {
		t.Errorf("iperf3 gets %.2f Mbit/s, a full link gives %.2f", got/1e6, full/1e6)
	}
	if _, down := l.DirectWire.Stats(); down.Missed > 0 || down.Refused > 0 {
		t.Errorf("stats: %+v", down)
	}
}

// pingTimes reads the times of ping's answers, but for the first ones, which came with
// ARP: 64 bytes from 198.18.0.2: icmp_seq=4 ttl=64 time=50.2 ms.
func pingTimes(t *testing.T, text string) (times []time.Duration) {
	t.Helper()
	for line := range strings.Lines(text) {
		if _, rest, ok := strings.Cut(line, "time="); ok {
			ms, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			times = append(times, time.Duration(ms*float64(time.Millisecond)))
		}
	}
	if len(times) < 12 {
		t.Fatalf("ping has %d answers: %s", len(times), text)
	}
	return times[8:]
}
