package lab

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Shaper is a cable that is long, narrow or bad: each direction is a Way. It takes
// Ethernet frames from one machine and gives them to the other, unchanged.
//
//	laptop eth0 ---veth--- near [ the Shaper's own network ] far ---veth--- eth0 firewall
//
// When a frame comes is the kernel's word, and when it comes out is reckoned from that
// alone; the Shaper's own delays only make it come out a little late, and never add
// up. Stats tell whether the machine was too busy for that.
//
// The machines' devices at its ends complete checksums and cut packets themselves, as
// if they had no offloads: what passes is packets of the cable's MTU.
type Shaper struct {
	network *Machine // has the two middle devices, and nothing else
	epoch   time.Time
	wake    int // an eventfd that ends the thread
	thread  sync.WaitGroup
	closing sync.Once

	mu       sync.Mutex
	up, down course
	cut      bool
}

// WayStats are counts of one direction.
type WayStats struct {
	Frames, Octets int64 // that came out
	Dropped        int64 // found no room in the buffer
	Lost           int64 // vanished by Loss
	Cut            int64 // vanished by Cut

	// What follows is the Shaper's own failure: where it is not near 0, measurements
	// over it say little.
	Late    int64 // came out more than a millisecond after their time
	Missed  int64 // were not taken: they came too fast, or were no whole packets
	Refused int64 // were not taken by the device at the end
}

const (
	// early is how much before its time a frame may come out, so that frames that are
	// due together go together: one wake-up costs as much as several frames. It is
	// never more than a tenth of the Delay.
	early = 100 * time.Microsecond

	lateness = time.Millisecond // see WayStats.Late

	// maxLook is how long frames may lie in the ring before they are looked at: long
	// before it is full.
	maxLook = 2 * time.Millisecond

	// minLook is the Delay below which the thread wakes for every frame that comes.
	minLook = 200 * time.Microsecond

	// maxHeld bounds the octets on one Way: ten seconds of 100 Mbit/s and more. What
	// comes beyond it is dropped.
	maxHeld = 128 << 20
)

// A held is a frame on its way.
type held struct {
	due   int64
	frame []byte
}

// A course is one direction: a lane, its ends, and what is on it.
type course struct {
	lane
	from, to *packetRing
	frames   []held // by time
	octets   int    // of frames
	came     int64  // when the last frame did
	spare    [][]byte
	stats    WayStats
}

// shapedCable joins two machines by a Shaper, which at first passes everything at
// once. Up is from a. The caller closes it.
func shapedCable(ctx context.Context, a, b end) (s *Shaper, err error) {
	s = &Shaper{epoch: time.Now(), wake: -1, up: course{lane: newLane(Way{})}, down: course{lane: newLane(Way{})}}
	defer func() {
		if err != nil {
			s.Close()
			s, err = nil, fmt.Errorf("lab: shaping the cable from %s to %s: %w", a.machine.Name, b.machine.Name, err)
		}
	}()
	if s.network, err = newNetwork("wire"); err != nil {
		return s, err
	}
	near, far := end{machine: s.network, device: "near"}, end{machine: s.network, device: "far"}
	for _, ends := range [][2]end{{a, near}, {b, far}} {
		if err := cable(ctx, ends[0], ends[1]); err != nil {
			return s, err
		}
		if err := ends[0].machine.Do(func() error { return withoutOffloads(ends[0].device) }); err != nil {
			return s, fmt.Errorf("%s: switching offloads of %s off: %w", ends[0].machine.Name, ends[0].device, err)
		}
	}
	if s.up.from, err = s.open(near.device); err != nil {
		return s, err
	}
	if s.down.from, err = s.open(far.device); err != nil {
		return s, err
	}
	s.up.to, s.down.to = s.down.from, s.up.from
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return s, err
	}
	s.thread.Go(s.run)
	return s, nil
}

func (s *Shaper) open(device string) (r *packetRing, err error) {
	link, err := s.network.netlink.LinkByName(device)
	if err != nil {
		return nil, err
	}
	err = s.network.Do(func() error {
		r, err = openRing(link.Attrs().Index)
		return err
	})
	return r, err
}

// Set changes both directions. Frames that are on their way keep their times, and
// those that come from now on stay behind them.
func (s *Shaper) Set(up, down Way) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up.become(up)
	s.down.become(down)
}

// Cut makes all vanish, silently: what is on its way and what comes.
func (s *Shaper) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut = true
	for _, d := range s.courses() {
		d.stats.Cut += int64(len(d.frames))
		d.frames, d.octets = nil, 0
		d.free, d.last = 0, 0
	}
}

// Restore ends a Cut.
func (s *Shaper) Restore() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step() // what came before now came to a cable that was cut
	s.cut = false
}

// Stats returns the counts since the beginning.
func (s *Shaper) Stats() (up, down WayStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.courses() {
		d.stats.Missed += d.from.overrun()
	}
	return s.up.stats, s.down.stats
}

// Close ends it, and what is on its way with it. It may be called more than once.
func (s *Shaper) Close() error {
	s.closing.Do(func() {
		if s.wake >= 0 {
			unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
			s.thread.Wait()
			unix.Close(s.wake)
		}
		for _, d := range s.courses() {
			if d.from != nil {
				d.from.close()
			}
		}
		if s.network != nil {
			s.network.close()
		}
	})
	return nil
}

func (s *Shaper) courses() [2]*course { return [2]*course{&s.up, &s.down} }

// run is the Shaper's thread. It is the most urgent of the machine, and sleeps nearly
// always.
func (s *Shaper) run() {
	runtime.LockOSThread() // and never unlocked: the thread, which is like no other, ends with this
	// Without either it is only less exact, and Stats tell.
	unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	for {
		s.mu.Lock()
		until, watched := s.step()
		s.mu.Unlock()
		if s.sleep(until, watched) {
			return
		}
	}
}

// step takes what has come and gives out what is due. It says when something is due
// next, MaxInt64 for never, and which directions must be watched for frames that come.
func (s *Shaper) step() (until int64, watched [2]bool) {
	until = math.MaxInt64
	now, wall := s.clock()
	for i, d := range s.courses() {
		d.takeAll(now, wall, s.cut)
		d.giveDue(now)
		next := int64(math.MaxInt64)
		if len(d.frames) > 0 {
			next = d.frames[0].due
		}
		if len(d.frames) == 0 || d.Delay < minLook {
			watched[i] = true
		} else {
			next = min(next, now+int64(min(d.Delay, maxLook))) // what comes before that is due after it
		}
		until = min(until, next)
	}
	return until, watched
}

// clock returns the time since the epoch, and the same on the wall clock, by which the
// kernel says when a frame came.
func (s *Shaper) clock() (now, wall int64) {
	t := time.Now()
	return int64(t.Sub(s.epoch)), t.UnixNano()
}

// takeAll takes the frames that have come by now.
func (d *course) takeAll(now, wall int64, cut bool) {
	for {
		f, ok := d.from.receive()
		if !ok {
			return
		}
		d.take(f, max(d.came, min(now, now-(wall-f.came))), cut)
		d.from.release()
	}
}

// take takes a frame that came at a time.
func (d *course) take(f received, came int64, cut bool) {
	d.came = came
	if cut {
		d.stats.Cut++
		return
	}
	if !f.whole {
		d.stats.Missed++
		return
	}
	due, what := d.lane.take(came, len(f.octets), carriesIP(f.octets))
	switch {
	case what == lost:
		d.stats.Lost++
		return
	case what == dropped || d.octets+len(f.octets) > maxHeld:
		d.stats.Dropped++
		return
	}
	var frame []byte
	if n := len(d.spare); n > 0 {
		frame, d.spare = d.spare[n-1], d.spare[:n-1]
	} else {
		frame = make([]byte, 0, ringFrame)
	}
	frame = append(frame, f.octets...)
	i := len(d.frames)
	for i > 0 && d.frames[i-1].due > due {
		i--
	}
	d.frames = slices.Insert(d.frames, i, held{due, frame})
	d.octets += len(frame)
}

// giveDue gives out what is due.
func (d *course) giveDue(now int64) {
	n, soon := 0, now+int64(min(early, d.Delay/10))
	for ; n < len(d.frames) && d.frames[n].due <= soon; n++ {
		f := d.frames[n]
		if now-f.due > int64(lateness) {
			d.stats.Late++
		}
		if err := d.to.send(f.frame); err != nil {
			d.stats.Refused++
		} else {
			d.stats.Frames++
			d.stats.Octets += int64(len(f.frame))
		}
		d.octets -= len(f.frame)
		d.spare = append(d.spare, f.frame[:0])
	}
	d.frames = d.frames[n:]
}

// sleep returns at a time, or when a frame comes in a watched direction, or with true
// when the Shaper ends.
func (s *Shaper) sleep(until int64, watched [2]bool) (ended bool) {
	fds := [3]unix.PollFd{{Fd: int32(s.wake), Events: unix.POLLIN}}
	for i, d := range s.courses() {
		fds[1+i] = unix.PollFd{Fd: -1, Events: unix.POLLIN} // ignored
		if watched[i] {
			fds[1+i].Fd = int32(d.from.fd)
		}
	}
	var timeout *unix.Timespec
	if until != math.MaxInt64 {
		now, _ := s.clock()
		t := unix.NsecToTimespec(max(0, until-now))
		timeout = &t
	}
	unix.Ppoll(fds[:], timeout, nil) // an interruption is but a look too early
	for i, d := range s.courses() {
		if fds[1+i].Revents&unix.POLLERR != 0 {
			unix.GetsockoptInt(d.from.fd, unix.SOL_SOCKET, unix.SO_ERROR) // the device went down, and its telling so is over
		}
	}
	return fds[0].Revents != 0
}
